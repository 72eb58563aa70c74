"""Gauges of the queue, of the stored mail, and of the free space."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import make_url

from restante_process.config import Config
from restante_server.upkeep.figures import Found


class StoreGauges:
    """The gauges of one core. All cores of a store show the same figures: take their maximum, never their sum."""

    def __init__(self, registry: CollectorRegistry, settings: Config) -> None:
        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"restante_{name}", about, labels, registry=registry)

        self._length = gauge("queue_recipients", "Number of recipients in the mail queue, by state.", "state")
        self._oldest = gauge("queue_oldest_age_seconds", "Age of the oldest message in the queue, by state.", "state")
        self._mailboxes = gauge("mailboxes", "Number of mailboxes.")
        self._messages = gauge("messages", "Number of messages in all mailboxes.")
        self._mail = gauge("mail_bytes", "Size of all mailboxes; a message in several mailboxes counts in each.")
        self._database = gauge("database_size_bytes", "Size of the database.")
        self._updated = gauge(
            "store_figures_timestamp_seconds",
            "Time of the last update of the store's figures, in seconds since 1970-01-01 UTC.",
        )
        gauge(
            "storage_reserve_bytes", "Free space below which the core accepts no new mail (store.reserve_octets)."
        ).set(settings.store.reserve_octets)
        free = gauge("storage_free_bytes", "Free space on the file system of the place.", "place")
        free.labels("contents").set_function(_free(settings.contents_directory))
        database = make_url(settings.store_url)
        if database.get_backend_name() == "sqlite" and database.database:
            free.labels("database").set_function(_free(Path(database.database).parent))

    def show(self, found: Found, moment_seconds: float) -> None:
        """Show new figures. `moment_seconds` counts from 1970-01-01 UTC."""
        for state, (recipients, seconds) in found.queue.items():
            self._length.labels(state.name.lower()).set(recipients)
            self._oldest.labels(state.name.lower()).set(seconds)
        self._mailboxes.set(found.mailboxes)
        self._messages.set(found.messages)
        self._mail.set(found.mail_octets)
        self._database.set(found.database_octets)
        self._updated.set(moment_seconds)


def _free(directory: Path) -> Callable[[], float]:
    def octets() -> float:
        try:
            status = os.statvfs(directory)
        except OSError:
            return float("nan")  # unknown, in Prometheus
        return float(status.f_bavail * status.f_frsize)

    return octets
