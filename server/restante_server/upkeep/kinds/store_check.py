"""The job of AdminService.CheckStore: the invariants one by one, then the digests of all contents in order of ids."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

from restante.v1.admin_pb2 import CheckStoreRequest
from restante_server.upkeep import check, digests
from restante_server.upkeep.jobs.leases import Checkpoint
from restante_server.upkeep.jobs.records import JobKind
from restante_server.upkeep.jobs.work import Work

AT_ONCE: Final = 200  # contents compared in one snapshot
OCTETS_AT_ONCE: Final = 64 << 20  # of these contents, about: a cancellation waits for one snapshot at most
STEP_SECONDS: Final = 1.0  # between two committed cursors; a restart repeats at most this much
_FORM: Final = struct.Struct(">qq")


class Cursor(NamedTuple):
    """The position of a check."""

    invariants: int = 0  # groups of invariants looked at
    content_id: int = 0  # the last content compared

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        return cls(*_FORM.unpack(octets)) if octets else cls()

    def pack(self) -> bytes:
        return _FORM.pack(*self)


class StoreCheck:
    """See JobHandler. A check reads the whole store: two at once would only slow each other."""

    kind = JobKind.CHECK_STORE
    alone = True

    def __init__(self, contents: Path, at_once: int = AT_ONCE, step_seconds: float = STEP_SECONDS) -> None:
        """`at_once`: contents compared in one snapshot; `step_seconds`: time between two committed cursors."""
        self._contents, self._at_once, self._step_seconds = contents, at_once, step_seconds

    async def run(self, work: Work) -> None:
        """See JobHandler."""
        cursor = Cursor.unpack(work.job.cursor)
        wants_digests = CheckStoreRequest.FromString(work.job.request).digests
        done, total = work.done, len(check.INVARIANTS)
        if wants_digests:
            total += await work.read(digests.live_contents)
        for look in check.INVARIANTS[cursor.invariants :]:
            found = await work.read(look)
            cursor, done = cursor._replace(invariants=cursor.invariants + 1), done + 1
            await _commit(work, Checkpoint(cursor.pack(), done, total, found))
        if wants_digests:
            await self._compare(work, cursor, done, total)

    async def _compare(self, work: Work, cursor: Cursor, done: int, total: int) -> None:
        """Compare every content with its digest. Commits about once a second."""
        found: list[str] = []
        committed_at = time.monotonic()
        last: int | None = cursor.content_id
        while last is not None:
            round_ = await work.read(digests.compare, self._contents, last, self._at_once, OCTETS_AT_ONCE)
            last, done = round_.last, done + round_.compared
            found += round_.findings
            total = max(total, done)  # contents that came meanwhile
            cursor = cursor._replace(content_id=last or cursor.content_id)
            if last is None:
                total = done  # contents that went meanwhile
            if last is None or time.monotonic() - committed_at >= self._step_seconds:
                await _commit(work, Checkpoint(cursor.pack(), done, total, found))
                found, committed_at = [], time.monotonic()
            work.progress(done, total)


async def _commit(work: Work, reached: Checkpoint) -> None:
    await work.step(lambda tx: reached, rows=1 + len(reached.findings))
