"""The notifier, which informs watchers of mailboxes after each commit (docs/design.md "Change numbers").

A hint is (mailbox, change number) with the folders touched. Hints may be lost or doubled: a watcher reads all changes
above the number it has reached, and `compare` finds the hints that were missed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from restante.errors import MailboxNotFound, RestanteError
from restante.v1.sync_pb2 import SessionsEnded
from restante_server.db.engine import Database
from restante_server.directory import rights
from restante_server.directory.rights import Claim
from restante_server.store import mailboxes
from restante_server.store.changes import FolderDelta, Touched

COMPARE_SECONDS = 5.0
COMPARE_AT_ONCE = 500  # mailboxes in one read

Deltas = Mapping[int, FolderDelta]
Hint = Callable[[int, frozenset[int], bool, Deltas], None]
"""Called with the change number, the folders touched (none: unknown), whether it may wait, and the known deltas.

It may wait if the writer's response already carries the change. Must not block.
"""

NO_DELTAS: Deltas = {}


Lost = Callable[[RestanteError], None]
"""Called once the viewer has no right in the place any more, with the error. Must not block."""


@dataclass(eq=False, slots=True)
class Watched:
    """One watcher of one place, for one viewer."""

    claim: Claim
    hint: Hint
    lost: Lost


class Notifier:
    """The watchers of this core. Every method must be called on the event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._watched: dict[int, set[Watched]] = {}
        self._known: dict[int, int] = {}  # {mailbox: the highest change number hinted}
        self._endings: dict[Callable[[SessionsEnded], None], None] = {}  # listeners, in the order of their calls

    def watch(self, claim: Claim, hint: Hint, lost: Lost) -> Watched:
        """Add a watcher of a mailbox or folder. `forget` removes it."""
        watched = Watched(claim, hint, lost)
        self._watched.setdefault(claim.mailbox_id, set()).add(watched)
        return watched

    def forget(self, watched: Watched) -> None:
        """Remove a watcher. May be called repeatedly."""
        mailbox_id = watched.claim.mailbox_id
        among = self._watched.get(mailbox_id)
        if among is not None:
            among.discard(watched)
            if not among:
                del self._watched[mailbox_id]
                self._known.pop(mailbox_id, None)

    def changed(self, touched: Mapping[int, Touched]) -> None:
        """Hint at a commit of this core. Called in commit order, before the writer is answered."""
        for mailbox_id, what in touched.items():
            folder_ids = frozenset(what.folders)
            self.hint(
                mailbox_id,
                what.change_number,
                folder_ids,
                first=what.first,
                answered=what.answered,
                deltas=what.deltas,
            )

    def hint(
        self,
        mailbox_id: int,
        change_number: int,
        folder_ids: frozenset[int] = frozenset(),
        *,
        first: int = 0,
        answered: bool = False,
        deltas: Deltas = NO_DELTAS,
    ) -> None:
        """Pass a mailbox's new change number to its watchers, once. `folder_ids` covers the numbers from `first` on.

        A gap before `first` means that a hint was lost or is late: the watchers then receive no folders (unknown).
        """
        among = self._watched.get(mailbox_id)
        known = self._known.get(mailbox_id, 0)
        if among and change_number > known:
            self._known[mailbox_id] = change_number
            complete = 0 < first <= known + 1
            for watched in tuple(among):
                watched.hint(change_number, folder_ids if complete else frozenset(), answered and complete, deltas)

    def on_sessions_ended(self, listener: Callable[[SessionsEnded], None]) -> Callable[[], None]:
        """Call a listener for ended sessions. Returns a function that removes it."""
        self._endings[listener] = None
        return partial(self._endings.pop, listener, None)

    def sessions_ended(self, account_id: int, credential_version: int, token: bytes = b"") -> None:
        """Inform the listeners that an account's sessions below a credential version, or the one of a token, ended."""
        notice = SessionsEnded(account_id=account_id, credential_version=credential_version, session_token=token)
        for listener in tuple(self._endings):
            listener(notice)

    async def compare(self) -> None:
        """Compare every watched mailbox with the database once. Hint at those with a higher number, and inform the
        watchers that have lost their right."""
        watched = sorted(self._watched)
        for start in range(0, len(watched), COMPARE_AT_ONCE):
            some = watched[start : start + COMPARE_AT_ONCE]
            numbers, refused = await self._db.read(partial(_compared, mailbox_ids=some, claims=self._claims(some)))
            self._inform(refused)
            for mailbox_id, change_number in numbers.items():
                self.hint(mailbox_id, change_number)

    async def recheck(self, mailbox_ids: Iterable[int]) -> None:
        """Inform the watchers of these mailboxes that have lost their right. Other watchers notice nothing."""
        if not (claims := self._claims(mailbox_ids)):
            return
        try:
            refused = await self._db.read(partial(rights.refused, claims=claims))
        except RestanteError:
            return  # busy or draining; `compare` finds the same watchers
        self._inform(refused)

    def _claims(self, mailbox_ids: Iterable[int]) -> set[Claim]:
        return {watched.claim for mailbox_id in mailbox_ids for watched in self._watched.get(mailbox_id, ())}

    def _inform(self, refused: Collection[Claim]) -> None:
        for mailbox_id in {claim.mailbox_id for claim in refused}:
            for watched in tuple(self._watched.get(mailbox_id, ())):
                if watched.claim in refused:
                    watched.lost(MailboxNotFound(mailbox_id=mailbox_id))


def _compared(
    tx: Connection, *, mailbox_ids: Iterable[int], claims: Collection[Claim]
) -> tuple[dict[int, int], set[Claim]]:
    return mailboxes.change_numbers(tx, mailbox_ids), rights.refused(tx, claims)
