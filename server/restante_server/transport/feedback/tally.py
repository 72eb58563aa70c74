"""The counts of one core process since its last write. Mail is counted in memory and written once a minute.

A core that is killed loses the counts of at most that minute: reports are statistics, and mail is not slowed for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Connection

from restante_mail.feedback.aggregate import Row
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.feedback import counts
from restante_server.transport.feedback.counts import DAY_SECONDS, Request, Subject

MAX_HELD = 5_000  # different rows in memory; messages beyond are not counted


class Tally:
    """Counts messages for DMARC reports. Belongs to the event loop."""

    def __init__(self) -> None:
        self._requests: dict[Subject, Request] = {}
        self._counted: Counter[tuple[Subject, Row]] = Counter()
        self.left_out = 0  # messages above the bounds

    def count(self, policy_domain: str, request: Request, row: Row, now_seconds: int) -> None:
        """Count one message."""
        subject = Subject(now_seconds // DAY_SECONDS, policy_domain)
        if (subject, row) not in self._counted and len(self._counted) >= MAX_HELD:
            self.left_out += 1
            return
        self._requests[subject] = request
        self._counted[subject, row] += 1

    async def flush(self, db: Database) -> None:
        """Write the counts. They are kept if the write fails."""
        requests, counted = self._requests, self._counted
        if not counted:
            return
        self._requests, self._counted = {}, Counter()

        def add(tx: Connection) -> Mapping[Subject, int]:
            return counts.add(tx, requests, counted)

        try:
            left_out = await db.write(Write(add, rows=2 * len(counted)))
        except BaseException:
            self._requests = {**requests, **self._requests}
            self._counted.update(counted)
            raise
        self.left_out += sum(left_out.values())
