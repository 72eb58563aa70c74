"""After a commit, wake those who watch (docs/design.md "Change numbers").

A hint is (mailbox, change number) with the folders touched. Hints may be lost or doubled: a watcher reads what lies
above its own number, and `compare` makes good what was missed.
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
"""Called with a change number, the folders touched (none: not known), whether there is no haste, and what happened in
some of these folders. Must not block."""

NO_DELTAS: Deltas = {}


@dataclass(eq=False, slots=True)
class Watched:
    """One who watches a mailbox."""

    mailbox_id: int
    hint: Hint


class Notifier:
    """Belongs to the event loop. Every method must be called there."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._watched: dict[int, set[Watched]] = {}
        self._known: dict[int, int] = {}  # mailbox: the highest change number told
        self._endings: dict[Callable[[SessionsEnded], None], None] = {}  # in the order in which they are told

    def watch(self, mailbox_id: int, hint: Hint) -> Watched:
        """Begin to watch; end with `forget`."""
        watched = Watched(mailbox_id, hint)
        self._watched.setdefault(mailbox_id, set()).add(watched)
        return watched

    def forget(self, watched: Watched) -> None:
        """End watching; harmless to repeat."""
        among = self._watched.get(watched.mailbox_id)
        if among is not None:
            among.discard(watched)
            if not among:
                del self._watched[watched.mailbox_id]
                self._known.pop(watched.mailbox_id, None)

    def changed(self, touched: Mapping[int, Touched]) -> None:
        """A commit of this core, in commit order, before its writer is answered."""
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
        """A mailbox has this change number now; told once. The folders are those of the numbers from `first` on.

        When numbers were passed over, a hint was lost or is late: then nobody can say which folders it concerned.
        """
        among = self._watched.get(mailbox_id)
        known = self._known.get(mailbox_id, 0)
        if among and change_number > known:
            self._known[mailbox_id] = change_number
            complete = 0 < first <= known + 1
            for watched in tuple(among):
                watched.hint(change_number, folder_ids if complete else frozenset(), answered and complete, deltas)

    def on_sessions_ended(self, told: Callable[[SessionsEnded], None]) -> Callable[[], None]:
        """Be told of ended sessions; returns how to stop."""
        self._endings[told] = None
        return partial(self._endings.pop, told, None)

    def sessions_ended(self, account_id: int, credential_version: int, token: bytes = b"") -> None:
        """Sessions of an account below a credential version, or the one of a token, are over."""
        notice = SessionsEnded(account_id=account_id, credential_version=credential_version, session_token=token)
        for told in tuple(self._endings):
            told(notice)

    async def compare(self) -> None:
        """Once: compare every watched mailbox with the database, and hint where it has moved on."""
        watched = sorted(self._watched)
        for start in range(0, len(watched), COMPARE_AT_ONCE):
            some = watched[start : start + COMPARE_AT_ONCE]
            for mailbox_id, change_number in (await self._db.read(partial(_numbers, mailbox_ids=some))).items():
                self.hint(mailbox_id, change_number)


def _numbers(tx: Connection, *, mailbox_ids: Iterable[int]) -> dict[int, int]:
    return mailboxes.change_numbers(tx, mailbox_ids)
