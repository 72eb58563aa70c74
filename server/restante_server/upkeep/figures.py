"""Figures of the whole store, for the metrics and for administrators."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, select

from restante_server.db.clock import now_microseconds
from restante_server.db.schema import account, content, domain, mailbox, transport_message, transport_recipient
from restante_server.transport.states import WAITING, State

SECOND = 1_000_000  # microseconds

# Ids ascend with the time of acceptance: one index has the counts and the oldest messages, without a join.
_queue = (
    select(transport_recipient.c.state, func.count(), func.min(transport_recipient.c.transport_id))
    .where(
        transport_recipient.c.state.in_(bindparam("waiting", expanding=True)),
        transport_recipient.c.next_attempt_at.is_not(None),
    )
    .group_by(transport_recipient.c.state)
)
_accepted = select(transport_message.c.accepted_at).where(transport_message.c.transport_id == bindparam("oldest"))
_mail = select(
    func.count(),
    func.coalesce(func.sum(mailbox.c.message_count), 0),
    func.coalesce(func.sum(mailbox.c.used_octets), 0),
)
_contents = select(func.count(content.c.content_id), func.coalesce(func.sum(content.c.size_octets), 0))


class Found(NamedTuple):
    """The figures for the metrics."""

    queue: dict[State, tuple[int, float]]  # {state: recipients, and the age of the oldest message in seconds}
    mailboxes: int
    messages: int
    mail_octets: int
    database_octets: int


def look(tx: Connection) -> Found:
    """Read the figures. The cost grows with the queue and the number of mailboxes."""
    now = now_microseconds(tx)
    queue = dict.fromkeys(sorted(WAITING), (0, 0.0))
    for state, count, oldest in tx.execute(_queue, {"waiting": sorted(WAITING)}).all():
        accepted_at = tx.execute(_accepted, {"oldest": oldest}).scalar_one()
        queue[State(state)] = (count, max(0.0, (now - accepted_at) / SECOND))
    mailboxes, messages, octets = tx.execute(_mail).one()
    return Found(queue, mailboxes, int(messages), int(octets), _database_octets(tx))


def _database_octets(tx: Connection) -> int:
    if tx.dialect.name == "postgresql":
        return int(tx.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
    pages: int = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    octets: int = tx.exec_driver_sql("PRAGMA page_size").scalar_one()
    return pages * octets


class Statistics(NamedTuple):
    """Counts of the whole installation."""

    domains: int
    accounts: int
    messages: int
    mail_octets: int  # each message counted in each mailbox
    contents: int
    content_octets: int
    queued_recipients: int


def statistics(tx: Connection) -> Statistics:
    """Count the whole store. The cost grows with the number of contents."""

    def count(query: Select[int]) -> int:
        return int(tx.execute(query).scalar_one())

    _, messages, mail_octets = tx.execute(_mail).one()
    contents, content_octets = tx.execute(_contents).one()
    return Statistics(
        domains=count(select(func.count()).select_from(domain)),
        accounts=count(select(func.count()).select_from(account)),
        messages=int(messages),
        mail_octets=int(mail_octets),
        contents=contents,
        content_octets=int(content_octets),
        queued_recipients=count(
            select(func.count())
            .select_from(transport_recipient)
            .where(transport_recipient.c.next_attempt_at.is_not(None))
        ),
    )
