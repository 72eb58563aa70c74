"""The counts of messages for tomorrow's DMARC reports: one row for all messages of a day that look alike to a report.

The numbers of rows and of domains of a day are bounded, because a sender may invent domains and addresses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select

from restante_mail.feedback.aggregate import DkimAuthentication, Override, Row, SpfAuthentication
from restante_server.db.schema import dmarc_domain, dmarc_row
from restante_server.db.upsert import insert_into

MAX_DOMAINS = 10_000  # of one day
MAX_ROWS = 10_000  # of one day and domain

DAY_SECONDS = 86_400


class Subject(NamedTuple):
    """The day and the domain of one report."""

    day: int  # days since 1970-01-01 UTC
    policy_domain: str


@dataclass(frozen=True, slots=True)
class Request:
    """The domain's request for reports, as last seen."""

    record: str
    addresses: tuple[str, ...]


def add(
    tx: Connection, requests: Mapping[Subject, Request], counted: Mapping[tuple[Subject, Row], int]
) -> dict[Subject, int]:
    """Add counted messages; returns the number of messages left out, above the bounds, of each subject."""
    left_out: dict[Subject, int] = {}
    room = {subject: _room(tx, subject, request) for subject, request in sorted(requests.items())}
    into = insert_into(tx, dmarc_row)
    more = into.on_conflict_do_update(
        index_elements=[dmarc_row.c.day, dmarc_row.c.policy_domain, dmarc_row.c.digest],
        set_={"message_count": dmarc_row.c.message_count + into.excluded.message_count},
    )
    rows: list[dict[str, Any]] = []
    for (subject, row), count in counted.items():
        facts = json.dumps(asdict(row), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(facts.encode()).digest()
        here = select(dmarc_row.c.digest).where(*_of(subject), dmarc_row.c.digest == digest)
        if tx.scalar(here) is None:
            if room[subject] <= 0:
                left_out[subject] = left_out.get(subject, 0) + count
                continue
            room[subject] -= 1
        rows.append({**subject._asdict(), "digest": digest, "facts": facts, "message_count": count})
    if rows:
        tx.execute(more, sorted(rows, key=lambda one: (one["day"], one["policy_domain"], one["digest"])))
    return left_out


def _room(tx: Connection, subject: Subject, request: Request) -> int:
    """The number of rows that the subject may still get; 0 if the day has too many domains. Inserts the subject."""
    of_day = select(func.count()).select_from(dmarc_domain).where(dmarc_domain.c.day == subject.day)
    here = dmarc_domain.c.policy_domain == subject.policy_domain
    known = tx.scalar(of_day.where(here))
    if not known and (tx.scalar(of_day) or 0) >= MAX_DOMAINS:
        return 0
    into = insert_into(tx, dmarc_domain)
    values = {"record": request.record, "report_to": json.dumps(request.addresses)}
    tx.execute(
        into.values(**subject._asdict(), **values).on_conflict_do_update(
            index_elements=[dmarc_domain.c.day, dmarc_domain.c.policy_domain], set_=values
        )
    )
    count = select(func.count()).select_from(dmarc_row).where(*_of(subject))
    return MAX_ROWS - (tx.scalar(count) or 0)


def due(tx: Connection, before_day: int, most: int) -> list[Subject]:
    """Subjects of earlier days, the earliest first."""
    wanted = (
        select(dmarc_domain.c.day, dmarc_domain.c.policy_domain)
        .where(dmarc_domain.c.day < before_day)
        .order_by(dmarc_domain.c.day, dmarc_domain.c.policy_domain)
        .limit(most)
    )
    return [Subject(*row) for row in tx.execute(wanted)]


def load(tx: Connection, subject: Subject) -> tuple[Request, tuple[tuple[Row, int], ...]] | None:
    """The request and the rows of a subject, most messages first; None if another core has sent the report."""
    here = (dmarc_domain.c.day == subject.day, dmarc_domain.c.policy_domain == subject.policy_domain)
    found = tx.execute(select(dmarc_domain.c.record, dmarc_domain.c.report_to).where(*here)).one_or_none()
    if found is None:
        return None
    wanted = (
        select(dmarc_row.c.facts, dmarc_row.c.message_count)
        .where(*_of(subject))
        .order_by(dmarc_row.c.message_count.desc(), dmarc_row.c.digest)
    )
    rows = tuple((_row(json.loads(facts)), count) for facts, count in tx.execute(wanted))
    return Request(found[0], tuple(json.loads(found[1]))), rows


def remove(tx: Connection, subject: Subject) -> bool:
    """Delete a subject with its rows; returns whether it was there."""
    here = (dmarc_domain.c.day == subject.day, dmarc_domain.c.policy_domain == subject.policy_domain)
    gone = tx.execute(delete(dmarc_domain).where(*here)).rowcount
    tx.execute(delete(dmarc_row).where(*_of(subject)))
    return gone > 0


def _of(subject: Subject) -> tuple[Any, Any]:
    return dmarc_row.c.day == subject.day, dmarc_row.c.policy_domain == subject.policy_domain


def _row(facts: dict[str, Any]) -> Row:
    """A Row from its JSON."""
    spf = facts["spf"]
    return Row(
        **{
            **facts,
            "overrides": tuple(Override(**one) for one in facts["overrides"]),
            "dkim": tuple(DkimAuthentication(**one) for one in facts["dkim"]),
            "spf": None if spf is None else SpfAuthentication(**spf),
        }
    )
