"""What a core process tells of itself: one line in the log for each finished call, and its metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from restante_server.db.hooks import Observer
from restante_server.transport.hooks import Figures
from restante_server.transport.states import State

if TYPE_CHECKING:
    from restante_server.api.engine.caller import Caller
    from restante_server.db.engine import Database

log = structlog.get_logger("restante.core")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

DELIVERY_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)
OUTCOMES = {State.PENDING: "deferred"}


class CallObserver:
    """Told of every finished call: unary, operation or stream. `quiet` logs only calls that failed or took long."""

    def __init__(self, registry: CollectorRegistry, *, quiet: bool = False, slow_seconds: float = 1.0) -> None:
        self._quiet, self._slow_seconds = quiet, slow_seconds
        self._calls = Counter("restante_rpc", "Finished calls.", ["method", "outcome"], registry=registry)
        self._seconds = Histogram(
            "restante_rpc_duration_seconds", "Time of calls.", ["method"], buckets=SECONDS, registry=registry
        )
        self._bound: dict[tuple[str, str], tuple[Counter, Histogram]] = {}  # `labels()` costs more than the count

    def finished(self, path: str, caller: Caller, outcome: str, began: float) -> None:
        """`began` is a moment of time.perf_counter(); `outcome` is OK, CANCELLED or an ErrorReason."""
        seconds = time.perf_counter() - began
        bound = self._bound.get((path, outcome))
        if bound is None:
            name = path.rpartition(".")[2]
            bound = self._bound[path, outcome] = (self._calls.labels(name, outcome), self._seconds.labels(name))
        bound[0].inc()
        bound[1].observe(seconds)
        if self._quiet and outcome == "OK" and seconds < self._slow_seconds:
            return
        log.info(
            "call",
            method=path.rpartition(".")[2],
            actor=caller.actor,
            subject=caller.mailbox_id or None,
            gateway=caller.identity or None,
            client=caller.client_address or None,
            outcome=outcome,
            milliseconds=round(seconds * 1_000, 2),
        )


class MailFigures(Figures):
    """Mail on its way. See Figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._taken = Histogram(
            "restante_mail_taken_duration_seconds",
            "Messages taken responsibility for, with the time until that was durable.",
            ["kind"],
            buckets=SECONDS,
            registry=registry,
        )
        self._recipients = Counter(
            "restante_mail_recipients", "Recipients, by how an attempt ended.", ["outcome"], registry=registry
        )
        self._delivery = Histogram(
            "restante_mail_delivery_duration_seconds",
            "Time from a message's acceptance until it lay in a mailbox, for each recipient.",
            buckets=DELIVERY_SECONDS,
            registry=registry,
        )

        self._of_kind: dict[str, Histogram] = {}  # `labels()` costs more than the count
        self._of_state: dict[State, Counter] = {}

    def taken(self, kind: str, seconds: float) -> None:
        """See Figures."""
        histogram = self._of_kind.get(kind)
        if histogram is None:
            histogram = self._of_kind[kind] = self._taken.labels(kind)
        histogram.observe(seconds)

    def settled(self, state: State, recipients: int) -> None:
        """See Figures."""
        counter = self._of_state.get(state)
        if counter is None:
            counter = self._of_state[state] = self._recipients.labels(OUTCOMES.get(state, state.name.lower()))
        counter.inc(recipients)

    def delivered(self, recipients: int, seconds: float) -> None:
        """See Figures."""
        self.settled(State.DELIVERED, recipients)
        for _ in range(recipients):
            self._delivery.observe(seconds)


class StoreObserver(Observer):
    """The figures of the database: groups of writes, reads, checkpoints, and what waits. Called on worker threads."""

    def __init__(self, registry: CollectorRegistry, *, sqlite: bool) -> None:
        self._registry = registry

        def seconds(name: str, what: str) -> Histogram:
            return Histogram(f"restante_{name}_seconds", what, buckets=SECONDS, registry=registry)

        self._groups = seconds("write_transaction_duration", "Time of write transactions.")
        self._reads = seconds("read_duration", "Time of read snapshots.")
        self._waits = seconds("read_wait_duration", "How long reads waited for a thread.")
        self._operations = Counter("restante_write_operations", "Operations in transactions.", registry=registry)
        self._replays = Counter("restante_write_replays", "Write transactions that ran again.", registry=registry)
        if sqlite:
            self._checkpoints = seconds("sqlite_checkpoint_duration", "Time of SQLite checkpoints.")
            self._pages = Gauge(
                "restante_sqlite_log_pages", "Pages in SQLite's log at the last checkpoint.", registry=registry
            )

    def watch(self, db: Database) -> None:
        """Tell of what waits in it, too."""
        for name, what, look in (
            ("write_pipeline_operations", "Writes inside the pipeline.", lambda: db.queued_operations),
            ("write_pipeline_bytes", "Size of writes inside the pipeline.", lambda: db.queued_octets),
            ("write_pipeline_waiting", "Writes that wait for room in the pipeline.", lambda: db.waiting_writers),
            ("reads_in_progress", "Reads that wait or run.", lambda: db.waiting_reads),
        ):
            Gauge(f"restante_{name}", what, registry=self._registry).set_function(look)

    def group(self, lane: int, operations: int, seconds: float, replays: int) -> None:
        """See Observer."""
        self._groups.observe(seconds)
        self._operations.inc(operations)
        if replays:
            self._replays.inc(replays)

    def read(self, functions: int, waited_seconds: float, seconds: float) -> None:
        """See Observer."""
        self._reads.observe(seconds)
        self._waits.observe(waited_seconds)

    def checkpoint(self, seconds: float, pages: int) -> None:
        """See Observer; of SQLite alone."""
        self._checkpoints.observe(seconds)
        self._pages.set(pages)
