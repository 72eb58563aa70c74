"""The notifier, which informs watchers of mailboxes after each commit (docs/design.md "Change numbers").

A hint is (mailbox, change number) with the folders touched. Hints may be lost or doubled: a watcher reads all changes
above the number it has reached, and `compare` finds the hints that were missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from restante.v1.sync_pb2 import SessionsEnded
from restante_server.db.engine import Database
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


@dataclass(eq=False, slots=True)
class Watched:
    """One watcher of one mailbox."""

    mailbox_id: int
    hint: Hint


class Notifier:
    """The watchers of this core. Every method must be called on the event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._watched: dict[int, set[Watched]] = {}
        self._known: dict[int, int] = {}  # {mailbox: the highest change number hinted}
        self._endings: dict[Callable[[SessionsEnded], None], None] = {}  # listeners, in the order of their calls

    def watch(self, mailbox_id: int, hint: Hint) -> Watched:
        """Add a watcher of a mailbox. `forget` removes it."""
        watched = Watched(mailbox_id, hint)
        self._watched.setdefault(mailbox_id, set()).add(watched)
        return watched

    def forget(self, watched: Watched) -> None:
        """Remove a watcher. May be called repeatedly."""
        among = self._watched.get(watched.mailbox_id)
        if among is not None:
            among.discard(watched)
            if not among:
                del self._watched[watched.mailbox_id]
                self._known.pop(watched.mailbox_id, None)

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

    def on_sessions_ended(self, told: Callable[[SessionsEnded], None]) -> Callable[[], None]:
        """Call a listener for ended sessions. Returns a function that removes it."""
        self._endings[told] = None
        return partial(self._endings.pop, told, None)

    def sessions_ended(self, account_id: int, credential_version: int, token: bytes = b"") -> None:
        """Inform the listeners that an account's sessions below a credential version, or the one of a token, ended."""
        notice = SessionsEnded(account_id=account_id, credential_version=credential_version, session_token=token)
        for told in tuple(self._endings):
            told(notice)

    async def compare(self) -> None:
        """Compare every watched mailbox with the database once, and hint at those with a higher number."""
        watched = sorted(self._watched)
        for start in range(0, len(watched), COMPARE_AT_ONCE):
            some = watched[start : start + COMPARE_AT_ONCE]
            for mailbox_id, change_number in (await self._db.read(partial(_numbers, mailbox_ids=some))).items():
                self.hint(mailbox_id, change_number)


def _numbers(tx: Connection, *, mailbox_ids: Iterable[int]) -> dict[int, int]:
    return mailboxes.change_numbers(tx, mailbox_ids)
