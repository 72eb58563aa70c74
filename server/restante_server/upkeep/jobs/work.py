"""One run of a job, as its kind sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

from sqlalchemy import Connection

from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.upkeep.jobs import leases
from restante_server.upkeep.jobs.leases import Checkpoint, Lease
from restante_server.upkeep.jobs.records import Job, JobKind

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Work:
    """A job with its position. The job may have been run in part before: `job.cursor` is its last committed cursor."""

    def __init__(self, db: Database, job: Job, lease: Lease) -> None:
        self.job, self.lease, self._db = job, lease, db
        self.done, self.total = job.done, job.total

    def progress(self, done: int, total: int) -> None:
        """Note the progress. The runner stores it at most once a second. Callable on any thread."""
        self.done, self.total = done, total

    async def read(self, function: Callable[[Connection, *Ts], R], /, *args: *Ts) -> R:
        """Run a function in one read snapshot. See Database.read."""
        return await self._db.read(function, *args)

    async def step(
        self,
        run: Callable[[Connection], Checkpoint],
        *,
        mailboxes: frozenset[int] = frozenset(),
        rows: int = 1,
    ) -> Checkpoint:
        """Run one step and store its position in one transaction, if the actor still has the right to it.

        Raises Superseded, CancelRequested or PermissionDenied, having written nothing.
        """

        def whole(tx: Connection) -> Checkpoint:
            leases.require(tx, self.lease)
            reached = run(tx)
            leases.advance(tx, self.lease, reached)
            return reached

        reached = await self._db.write(Write(whole, mailboxes=mailboxes, rows=rows + 1))
        self.progress(reached.done, reached.total)
        return reached


class JobHandler(Protocol):
    """The work of one kind of job."""

    @property
    def kind(self) -> JobKind: ...

    @property
    def alone(self) -> bool:
        """Whether only one job of the kind may run in the store at a time."""
        ...

    async def run(self, work: Work) -> None:
        """Do the work from the job's cursor on. A RestanteError ends the job as FAILED, a temporary one postpones it.

        Cancellation of the task must end the work within about a second; what the last step committed stays.
        """
        ...
