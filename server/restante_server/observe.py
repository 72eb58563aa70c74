"""What a core process tells of itself: one line in the log for each finished call, and its metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from restante_server.db.hooks import Observer

if TYPE_CHECKING:
    from restante_server.api.caller import Caller
    from restante_server.db.engine import Database

log = structlog.get_logger("restante.core")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class CallObserver:
    """Told of every finished call: unary, operation or stream. `quiet` logs only calls that failed or took long."""

    def __init__(self, registry: CollectorRegistry, *, quiet: bool = False, slow_seconds: float = 1.0) -> None:
        self._quiet, self._slow_seconds = quiet, slow_seconds
        self._calls = Counter("restante_rpc", "Finished calls.", ["method", "outcome"], registry=registry)
        self._seconds = Histogram(
            "restante_rpc_seconds", "Time of calls.", ["method"], buckets=SECONDS, registry=registry
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


class StoreObserver(Observer):
    """The figures of the database: groups of writes, reads, checkpoints, and what waits. Called on worker threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

        def seconds(name: str, what: str) -> Histogram:
            return Histogram(f"restante_{name}_seconds", what, buckets=SECONDS, registry=registry)

        self._groups = seconds("write_group", "Time of write transactions.")
        self._reads = seconds("read", "Time of read snapshots.")
        self._waits = seconds("read_wait", "How long reads waited for a thread.")
        self._checkpoints = seconds("checkpoint", "Time of SQLite checkpoints.")
        self._operations = Counter("restante_write_operations", "Operations in groups.", registry=registry)
        self._replays = Counter("restante_write_replays", "Groups that ran again.", registry=registry)
        self._pages = Gauge("restante_log_pages", "Pages in SQLite's log at the last checkpoint.", registry=registry)

    def watch(self, db: Database) -> None:
        """Tell of what waits in it, too."""
        for name, what, look in (
            ("restante_queued_operations", "Writes inside the pipeline.", lambda: db.queued_operations),
            ("restante_queued_octets", "Octets of writes inside the pipeline.", lambda: db.queued_octets),
            ("restante_waiting_writers", "Writers that wait for room in the queue.", lambda: db.waiting_writers),
            ("restante_waiting_reads", "Reads that wait or run.", lambda: db.waiting_reads),
        ):
            Gauge(name, what, registry=self._registry).set_function(look)

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
        """See Observer."""
        self._checkpoints.observe(seconds)
        self._pages.set(pages)
