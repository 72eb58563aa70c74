"""Figures of the whole store that are looked up now and then: the queue, the mail, and the room for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import Connection, bindparam, func, make_url, select

from restante_process.config import Config
from restante_server.db.clock import now_microseconds
from restante_server.db.schema import mailbox, transport_message, transport_recipient
from restante_server.transport.states import WAITING, State

SECOND = 1_000_000  # microseconds

_queue = (
    select(transport_recipient.c.state, func.count(), func.min(transport_message.c.accepted_at))
    .join(transport_message, transport_message.c.transport_id == transport_recipient.c.transport_id)
    .where(transport_recipient.c.state.in_(bindparam("waiting", expanding=True)))
    .group_by(transport_recipient.c.state)
)
_mail = select(
    func.count(),
    func.coalesce(func.sum(mailbox.c.message_count), 0),
    func.coalesce(func.sum(mailbox.c.used_octets), 0),
)


class Found(NamedTuple):
    """What one look has found."""

    queue: dict[State, tuple[int, float]]  # recipients, and the age of the oldest in seconds
    mailboxes: int
    messages: int
    mail_octets: int
    database_octets: int


def look(tx: Connection) -> Found:
    """One look at the store. Its cost is that of the queue and of one row for each mailbox."""
    now = now_microseconds(tx)
    queue = dict.fromkeys(sorted(WAITING), (0, 0.0))
    for state, count, oldest in tx.execute(_queue, {"waiting": sorted(WAITING)}):
        queue[State(state)] = (count, max(0.0, (now - oldest) / SECOND))
    mailboxes, messages, octets = tx.execute(_mail).one()
    return Found(queue, mailboxes, int(messages), int(octets), _database_octets(tx))


def _database_octets(tx: Connection) -> int:
    if tx.dialect.name == "postgresql":
        return int(tx.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
    pages: int = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
    octets: int = tx.exec_driver_sql("PRAGMA page_size").scalar_one()
    return pages * octets


class StoreGauges:
    """The gauges of one core. Cores of one store show the same: take the maximum over them, never the sum."""

    def __init__(self, registry: CollectorRegistry, settings: Config) -> None:
        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"restante_{name}", about, labels, registry=registry)

        self._length = gauge("queue_recipients", "Recipients in the mail queue, by state.", "state")
        self._oldest = gauge("queue_oldest_age_seconds", "Age of the oldest message in the queue, by state.", "state")
        self._mailboxes = gauge("mailboxes", "Mailboxes.")
        self._messages = gauge("messages", "Messages in all mailboxes.")
        self._mail = gauge("mail_bytes", "Size of all mailboxes, each message counted in each.")
        self._database = gauge("database_size_bytes", "Size of the database.")
        self._looked = gauge("store_looked_timestamp_seconds", "When the store's figures were last looked up.")
        gauge("storage_reserve_bytes", "Free space below which no new mail is taken.").set(
            settings.store.reserve_octets
        )
        free = gauge("storage_free_bytes", "Free space on the file system of a directory.", "place")
        free.labels("contents").set_function(_free(settings.contents_directory))
        database = make_url(settings.store_url)
        if database.get_backend_name() == "sqlite" and database.database:
            free.labels("database").set_function(_free(Path(database.database).parent))

    def show(self, found: Found, moment_seconds: float) -> None:
        """Replace what is shown. `moment_seconds` since 1970-01-01 UTC."""
        for state, (recipients, seconds) in found.queue.items():
            self._length.labels(state.name.lower()).set(recipients)
            self._oldest.labels(state.name.lower()).set(seconds)
        self._mailboxes.set(found.mailboxes)
        self._messages.set(found.messages)
        self._mail.set(found.mail_octets)
        self._database.set(found.database_octets)
        self._looked.set(moment_seconds)


def _free(directory: Path) -> Callable[[], float]:
    def octets() -> float:
        try:
            status = os.statvfs(directory)
        except OSError:
            return float("nan")  # Prometheus has no other word for unknown
        return float(status.f_bavail * status.f_frsize)

    return octets
