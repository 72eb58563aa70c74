"""The rows of jobs: starting, reading, cancelling and forgetting them. `leases` has the writes of a running job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from restante.errors import JobNotFound
from restante_server.db.clock import now_microseconds
from restante_server.db.schema import job, job_finding

KEPT_MICROSECONDS: Final = 30 * 24 * 3_600 * 1_000_000  # after the end of a job
MOST_FINDINGS: Final = 10_000  # kept for one job; the others are counted
ADMIN: Final = "admin"  # the actor of a job that the admin identity began


class JobKind(IntEnum):
    """The kinds of job; the values of restante.v1.JobKind."""

    CHECK_STORE = 1
    BACKUP_STORE = 2
    DELETE_ACCOUNT = 3


class JobState(IntEnum):
    """The states of a job; the values of restante.v1.JobState."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5


UNFINISHED: Final = (JobState.QUEUED, JobState.RUNNING)
FINAL: Final = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Actor:
    """The administrator who begins a job. `account_id` None: the admin identity, whose right does not end."""

    address: str
    account_id: int | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to start. `request` and `cursor` are octets of the kind's own form."""

    kind: JobKind
    actor: Actor
    request: bytes = b""
    cursor: bytes = b""
    subject: str = ""
    place: str = ""  # the only core that may run it; "": any
    mailbox_id: int | None = None
    total: int = 0


class Job(NamedTuple):
    """One job. Times are microseconds by the database's clock."""

    job_id: int
    kind: JobKind
    state: JobState
    actor: str
    account_id: int | None
    subject: str
    mailbox_id: int | None
    request: bytes
    cursor: bytes
    done: int
    total: int
    finding_count: int
    cancel_requested: bool
    attempts: int  # runs since the last committed step, with the present one
    status: bytes | None  # serialised google.rpc.Status
    created_at: int
    started_at: int | None
    finished_at: int | None


class Finding(NamedTuple):
    """One finding of a check."""

    number: int
    problem: str


COLUMNS = tuple(job.c[name] for name in Job._fields)

_one = select(*COLUMNS).where(job.c.job_id == bindparam("id"))
_findings = (
    select(job_finding.c.number, job_finding.c.problem)
    .where(job_finding.c.job_id == bindparam("id"), job_finding.c.number > bindparam("after"))
    .order_by(job_finding.c.number)
    .limit(bindparam("most"))
)
_request_cancel = (
    update(job).where(job.c.job_id == bindparam("id"), job.c.state.in_(UNFINISHED)).values(cancel_requested=True)
)
# A job that no core works on has no one else to end it.
_cancel_idle = (
    update(job)
    .where(
        job.c.job_id == bindparam("id"),
        or_(
            job.c.state == JobState.QUEUED,
            (job.c.state == JobState.RUNNING) & (job.c.lease_expires_at <= bindparam("now")),
        ),
    )
    .values(state=JobState.CANCELLED, finished_at=bindparam("now"), lease_id=None, lease_expires_at=None)
)
_last_deletion = (
    select(job.c.state, job.c.mailbox_id)
    .where(job.c.kind == JobKind.DELETE_ACCOUNT, job.c.request == bindparam("request"))
    .order_by(job.c.job_id.desc())
    .limit(1)
)
_past = (
    select(job.c.job_id)
    .where(job.c.finished_at < bindparam("before"))
    .order_by(job.c.finished_at)
    .limit(bindparam("most"))
)


def row_of(values: object) -> Job:
    """A Job of a row with COLUMNS."""
    found = Job._make(values)  # type: ignore[arg-type]
    return found._replace(
        kind=JobKind(found.kind), state=JobState(found.state), request=bytes(found.request), cursor=bytes(found.cursor)
    )


def start(tx: Connection, new: NewJob) -> Job:
    """Insert a job that waits for a core."""
    values = {
        "kind": new.kind,
        "state": JobState.QUEUED,
        "actor": new.actor.address,
        "account_id": new.actor.account_id,
        "subject": new.subject,
        "place": new.place,
        "mailbox_id": new.mailbox_id,
        "request": new.request,
        "cursor": new.cursor,
        "done": 0,
        "total": new.total,
        "finding_count": 0,
        "cancel_requested": False,
        "attempts": 0,
        "created_at": now_microseconds(tx),
    }
    return row_of(tx.execute(insert(job).values(values).returning(*COLUMNS)).one())


def get(tx: Connection, job_id: int) -> Job:
    """One job. Raises JobNotFound."""
    row = tx.execute(_one, {"id": job_id}).first()
    if row is None:
        raise JobNotFound(job_id=job_id)
    return row_of(row)


def listing(tx: Connection, kind: int, unfinished: bool, before: int, most: int) -> list[Job]:
    """At most `most` jobs with ids below `before`, latest first: of one kind (0: of all), or only unfinished ones."""
    query = select(*COLUMNS).where(job.c.job_id < before).order_by(job.c.job_id.desc()).limit(most)
    if kind:
        query = query.where(job.c.kind == kind)
    if unfinished:
        query = query.where(job.c.state.in_(UNFINISHED))
    return [row_of(row) for row in tx.execute(query)]


def findings(tx: Connection, job_id: int, after: int, most: int) -> list[Finding]:
    """At most `most` kept findings of a job with numbers above `after`, in order."""
    return [Finding(*row) for row in tx.execute(_findings, {"id": job_id, "after": after, "most": most})]


def cancel(tx: Connection, job_id: int) -> Job:
    """Ask the core that runs a job to end it, or end a job that none runs. A finished job stays as it is.

    Raises JobNotFound.
    """
    if tx.execute(_request_cancel, {"id": job_id}).rowcount:
        tx.execute(_cancel_idle, {"id": job_id, "now": now_microseconds(tx)})
    return get(tx, job_id)


def broken_off_deletion(tx: Connection, request: bytes) -> int | None:
    """The mailbox of the latest deletion with this request, if that failed or was cancelled."""
    row = tx.execute(_last_deletion, {"request": request}).first()
    return row.mailbox_id if row is not None and row.state in (JobState.FAILED, JobState.CANCELLED) else None


def forget(tx: Connection, before: int, most: int) -> int:
    """Delete at most `most` jobs that ended before this time, with their findings; returns their number."""
    gone = list(tx.execute(_past, {"before": before, "most": most}).scalars())
    if gone:
        tx.execute(delete(job_finding).where(job_finding.c.job_id.in_(gone)))
        tx.execute(delete(job).where(job.c.job_id.in_(gone)))
    return len(gone)
