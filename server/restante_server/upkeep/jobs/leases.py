"""The writes of running jobs. The core that runs a job holds its lease, which each write needs and renews.

A core that died cannot renew: when its leases have expired, other cores take the jobs over. A core that was only slow
finds another lease on the row, and its writes are refused (Superseded).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, exists, insert, or_, select, update

from restante.errors import BackupFailed, PermissionDenied, to_status
from restante_server.db.clock import now_microseconds
from restante_server.db.schema import account, job, job_finding
from restante_server.upkeep.jobs.records import COLUMNS, MOST_FINDINGS, UNFINISHED, Job, JobKind, JobState, row_of

LEASE_MICROSECONDS: Final = 15 * 1_000_000
AWAY_MICROSECONDS: Final = 600 * 1_000_000  # after which a job of one core fails when that core stays away
_CLAIMS: Final = 0x4A6F62436C61696D  # PostgreSQL advisory lock, so that only one core claims at a time


class Superseded(Exception):
    """Another core has taken the job over, or the job has ended."""


class CancelRequested(Exception):
    """CancelJob was called."""


class Rule(NamedTuple):
    """The conditions for claiming jobs of one kind."""

    kind: JobKind
    alone: bool  # only one job of the kind runs in the store at a time


class Lease(NamedTuple):
    """One run of a job."""

    job_id: int
    lease_id: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The position of a job after a step."""

    cursor: bytes = b""
    done: int = 0
    total: int = 0
    findings: Sequence[str] = ()  # new ones


class Standing(NamedTuple):
    """The facts that may end a run."""

    cancel_requested: bool
    permitted: bool  # the actor is still an administrator


_running = select(job.c.job_id, job.c.kind, job.c.place, job.c.lease_expires_at).where(job.c.state == JobState.RUNNING)
_waiting = (
    select(job.c.job_id)
    .where(
        job.c.state == JobState.QUEUED,
        job.c.kind == bindparam("kind"),
        or_(job.c.place == "", job.c.place == bindparam("place")),
    )
    .order_by(job.c.job_id)
    .limit(1)
)
_ours = and_(job.c.job_id == bindparam("id"), job.c.lease_id == bindparam("lease"), job.c.state == JobState.RUNNING)
_standing = (
    select(
        job.c.cancel_requested,
        or_(job.c.account_id.is_(None), and_(account.c.enabled, account.c.administrator)).label("permitted"),
    )
    .select_from(job.outerjoin(account, account.c.account_id == job.c.account_id))
    .where(_ours)
)
_take = (
    update(job)
    .where(
        job.c.job_id == bindparam("id"),
        or_(
            job.c.state == JobState.QUEUED,
            and_(job.c.state == JobState.RUNNING, job.c.lease_expires_at <= bindparam("now")),
        ),
    )
    .values(
        state=JobState.RUNNING,
        attempts=job.c.attempts + 1,
        lease_id=bindparam("lease"),
        lease_expires_at=bindparam("until"),
    )
    .returning(*COLUMNS)
)
_began = (
    update(job).where(job.c.job_id == bindparam("id"), job.c.started_at.is_(None)).values(started_at=bindparam("now"))
)
_advance = (
    update(job)
    .where(_ours)
    .values(
        cursor=bindparam("cursor"),
        done=bindparam("done"),
        total=bindparam("total"),
        finding_count=job.c.finding_count + bindparam("found", type_=job.c.finding_count.type),
        attempts=0,
        lease_expires_at=bindparam("until"),
    )
    .returning(job.c.finding_count)
)
_keep = (
    update(job)
    .where(_ours)
    .values(done=bindparam("done"), total=bindparam("total"), lease_expires_at=bindparam("until"))
)
_finish = (
    update(job)
    .where(_ours)
    .values(
        state=bindparam("into"),
        status=bindparam("status"),
        finished_at=bindparam("now"),
        lease_id=None,
        lease_expires_at=None,
    )
)
_release = (
    update(job)
    .where(_ours)
    .values(attempts=case((job.c.attempts > 0, job.c.attempts - 1), else_=0), lease_expires_at=bindparam("now"))
)
_release_all = update(job).where(job.c.state == JobState.RUNNING).values(lease_expires_at=0)
_cancel_old = (
    update(job)
    .where(job.c.state.in_(UNFINISHED), job.c.kind.in_((JobKind.CHECK_STORE, JobKind.BACKUP_STORE)))
    .values(state=JobState.CANCELLED, finished_at=bindparam("now"), lease_id=None, lease_expires_at=None)
)
_other = job.alias("other")
# The core of a queued job may be busy with others. When no job has run lately, it would have begun this one.
_idle = ~exists().where(or_(_other.c.lease_expires_at > bindparam("now"), _other.c.finished_at >= bindparam("before")))
_away = (
    update(job)
    .where(
        job.c.place != "",
        job.c.place != bindparam("here"),
        or_(
            and_(job.c.state == JobState.RUNNING, job.c.lease_expires_at < bindparam("before")),
            and_(job.c.state == JobState.QUEUED, job.c.created_at < bindparam("before"), _idle),
        ),
    )
    .values(
        state=JobState.FAILED,
        status=bindparam("status"),
        finished_at=bindparam("now"),
        lease_id=None,
        lease_expires_at=None,
    )
)


def claimable(tx: Connection, rules: Sequence[Rule], place: str, without: Collection[int] = ()) -> int | None:
    """The id of the oldest job that a core at this place may take now, without some; None when there is none."""
    now = now_microseconds(tx)
    running = tx.execute(_running).all()
    alone = {rule.kind for rule in rules if rule.alone}
    busy = {row.kind for row in running if row.lease_expires_at > now and row.kind in alone}
    found = [
        row.job_id
        for row in running
        if row.lease_expires_at <= now
        and row.kind not in busy
        and row.place in ("", place)
        and row.job_id not in without
    ]
    for rule in rules:
        if rule.kind not in busy:
            found += tx.execute(_waiting, {"kind": rule.kind, "place": place}).scalars()
    return min(found, default=None)


def claim(
    tx: Connection, rules: Sequence[Rule], place: str, lease_id: int, without: Collection[int] = ()
) -> Job | None:
    """Take a lease on the oldest claimable job, without some, if there is one."""
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CLAIMS})")
    job_id = claimable(tx, rules, place, without)
    if job_id is None:
        return None
    now = now_microseconds(tx)
    values = {"id": job_id, "lease": lease_id, "now": now, "until": now + LEASE_MICROSECONDS}
    row = tx.execute(_take, values).first()
    if row is None:  # cancelled a moment ago
        return None
    tx.execute(_began, {"id": job_id, "now": now})
    return row_of(row)


def standing(tx: Connection, lease: Lease) -> Standing:
    """Whether the run may go on. Raises Superseded."""
    row = tx.execute(_standing, _where(lease)).first()
    if row is None:
        raise Superseded
    return Standing(bool(row.cancel_requested), bool(row.permitted))


def require(tx: Connection, lease: Lease) -> None:
    """Raises Superseded, CancelRequested, and PermissionDenied when the actor is no administrator any more."""
    found = standing(tx, lease)
    if found.cancel_requested:
        raise CancelRequested
    if not found.permitted:
        raise PermissionDenied(permission="administrator")


def advance(tx: Connection, lease: Lease, step: Checkpoint) -> None:
    """Store the position after a step, in the step's own transaction. Raises as `require`."""
    require(tx, lease)
    values = {"cursor": step.cursor, "done": step.done, "total": step.total, "found": len(step.findings)}
    until = now_microseconds(tx) + LEASE_MICROSECONDS
    count: int | None = tx.execute(_advance, {**_where(lease), **values, "until": until}).scalar()
    if count is None:
        raise Superseded
    first = count - len(step.findings) + 1
    rows = [
        {"job_id": lease.job_id, "number": number, "problem": text}
        for number, text in enumerate(step.findings, first)
        if number <= MOST_FINDINGS
    ]
    if rows:
        tx.execute(insert(job_finding), rows)


def keep(tx: Connection, lease: Lease, done: int, total: int) -> None:
    """Renew the lease and store the progress."""
    until = now_microseconds(tx) + LEASE_MICROSECONDS
    tx.execute(_keep, {**_where(lease), "done": done, "total": total, "until": until})


def finish(tx: Connection, lease: Lease, state: JobState, status: bytes | None = None) -> bool:
    """End the job. Returns False, having changed nothing, when the lease is lost."""
    values = {"into": state, "status": status, "now": now_microseconds(tx)}
    return bool(tx.execute(_finish, {**_where(lease), **values}).rowcount)


def release(tx: Connection, lease: Lease) -> None:
    """Let another core, or the next start of this one, go on at once. The run is no failed attempt."""
    tx.execute(_release, {**_where(lease), "now": now_microseconds(tx)})


def release_all(tx: Connection) -> int:
    """Let all running jobs be claimed. For a store with one core, at its start: no other process runs any of them."""
    return tx.execute(_release_all).rowcount


def begin_again(tx: Connection) -> None:
    """Prepare the jobs of a restored store: deletions go on; checks and backups of the old store are cancelled.

    Every backup has the job that wrote it, as a running one.
    """
    tx.execute(_cancel_old, {"now": now_microseconds(tx)})
    release_all(tx)


def end_abandoned(tx: Connection, here: str) -> int:
    """End jobs that only another core may run, when that core has been away for long; returns their number.

    A job that waits for its core ends, too, once no job of the store has run for as long.
    """
    problem = "the core that writes the backup stopped and did not start again"
    status = to_status(BackupFailed(problem=problem)).SerializeToString()
    now = now_microseconds(tx)
    values: dict[str, Any] = {"here": here, "before": now - AWAY_MICROSECONDS, "status": status, "now": now}
    return tx.execute(_away, values).rowcount


def _where(lease: Lease) -> dict[str, Any]:
    return {"id": lease.job_id, "lease": lease.lease_id}
