"""The job of AdminService.DeleteAccount: it removes the mailbox of an account that has left the directory."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from restante_server.db.clock import now_microseconds
from restante_server.directory import rights
from restante_server.store import removal
from restante_server.upkeep.jobs.leases import Checkpoint
from restante_server.upkeep.jobs.records import JobKind
from restante_server.upkeep.jobs.work import Work

AT_ONCE: Final = 500  # messages removed in one step, which limits the wait of other writers


class AccountDeletion:
    """See JobHandler. The cursor is empty: what is left of the mailbox is the position."""

    kind = JobKind.DELETE_ACCOUNT
    alone = False

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """`at_once`: messages removed in one step."""
        self._at_once = at_once

    async def run(self, work: Work) -> None:
        """See JobHandler."""
        mailbox_id = work.job.mailbox_id
        assert mailbox_id is not None, "every deletion has a mailbox"
        removed = -1

        def remove(tx: Connection) -> Checkpoint:
            nonlocal removed
            removed = removal.delete_mailbox(tx, rights.system(mailbox_id), self._at_once, now_microseconds(tx))
            done = work.done + removed
            return Checkpoint(done=done, total=max(work.total, done) if removed else done)

        while removed:
            await work.step(remove, mailboxes=frozenset({mailbox_id}), rows=4 * self._at_once)
