"""Every invariant of the jobs' rows as a query. `check` returns a line for each violation."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, exists, or_, select

from restante_server.db.schema import account, job, job_finding
from restante_server.upkeep.jobs.records import FINAL, MOST_FINDINGS, UNFINISHED, JobKind, JobState

MOST_NAMED = 10  # examples listed for one broken invariant

_INVARIANTS: list[tuple[str, Select[*tuple[Any, ...]]]] = [
    (
        "job of an unknown kind or state",
        select(job.c.job_id, job.c.kind, job.c.state).where(
            or_(job.c.kind.not_in(list(JobKind)), job.c.state.not_in(list(JobState)))
        ),
    ),
    (
        "finished job without an end time, or unfinished job with one",
        select(job.c.job_id, job.c.state).where(job.c.state.in_(FINAL) != job.c.finished_at.is_not(None)),
    ),
    (
        "running job without a lease, or other job with one",
        select(job.c.job_id, job.c.state).where(
            or_(
                (job.c.state == JobState.RUNNING) != job.c.lease_id.is_not(None),
                job.c.lease_id.is_not(None) != job.c.lease_expires_at.is_not(None),
            )
        ),
    ),
    (
        "failed job without a status, or other job with one",
        select(job.c.job_id, job.c.state).where((job.c.state == JobState.FAILED) != job.c.status.is_not(None)),
    ),
    (
        "account deletion without a mailbox, or of a mailbox that has an account",
        select(job.c.job_id, job.c.mailbox_id).where(
            or_(
                (job.c.kind == JobKind.DELETE_ACCOUNT) != job.c.mailbox_id.is_not(None),
                job.c.state.in_(UNFINISHED) & exists().where(account.c.mailbox_id == job.c.mailbox_id),
            )
        ),
    ),
    (
        "finding without a job",
        select(job_finding.c.job_id).where(~exists().where(job.c.job_id == job_finding.c.job_id)),
    ),
    (
        "finding above the count of its job",
        select(job_finding.c.job_id, job_finding.c.number)
        .join(job, job.c.job_id == job_finding.c.job_id)
        .where(or_(job_finding.c.number > job.c.finding_count, job_finding.c.number > MOST_FINDINGS)),
    ),
]


def check(tx: Connection) -> list[str]:
    """One line for each broken invariant, with the ids of the first violations; empty for sound rows."""
    return [
        f"{rule}: " + ", ".join(f"{key} {value}" for key, value in row._mapping.items())
        for rule, query in _INVARIANTS
        for row in tx.execute(query.limit(MOST_NAMED))
    ]
