"""The metrics of a core's database, of mail in transport and of jobs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from restante_server.db.engine import Database
from restante_server.db.hooks import Observer
from restante_server.transport.hooks import Figures
from restante_server.transport.states import State
from restante_server.upkeep.jobs import hooks
from restante_server.upkeep.jobs.records import JobKind, JobState

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

DELIVERY_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0)
OUTCOMES = {State.PENDING: "deferred"}


class MailFigures(Figures):
    """The metrics of mail in transport. See Figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._taken = Histogram(
            "restante_mail_acceptance_duration_seconds",
            "Accepted messages, with the time from the last octet to the durable commit.",
            ["kind"],
            buckets=SECONDS,
            registry=registry,
        )
        self._recipients = Counter(
            "restante_mail_recipients",
            "Number of recipients, by the outcome of an attempt.",
            ["outcome"],
            registry=registry,
        )
        self._delivery = Histogram(
            "restante_mail_delivery_duration_seconds",
            "Time from a message's acceptance to its delivery into a mailbox, for each recipient.",
            buckets=DELIVERY_SECONDS,
            registry=registry,
        )

        self._checks = Counter(
            "restante_mail_checks",
            "Number of accepted messages, by check and its result.",
            ["check", "result"],
            registry=registry,
        )
        self._verdicts = Counter(
            "restante_mail_verdicts",
            "Number of messages that a check has put into Junk or refused.",
            ["check", "treatment"],
            registry=registry,
        )
        self._greylisting = Counter(
            "restante_mail_greylisting",
            "Number of recipients that greylisting has decided about, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._of_kind: dict[str, Histogram] = {}  # `labels()` costs more than the count
        self._of_state: dict[State, Counter] = {}
        self._of_outcome: dict[str, Counter] = {}  # of greylisting

    def taken(self, kind: str, seconds: float) -> None:
        """See Figures."""
        histogram = self._of_kind.get(kind)
        if histogram is None:
            histogram = self._of_kind[kind] = self._taken.labels(kind)
        histogram.observe(seconds)

    def checked(self, check: str, result: str) -> None:
        """See Figures."""
        self._checks.labels(check, result).inc()

    def judged(self, check: str, treatment: str) -> None:
        """See Figures."""
        self._verdicts.labels(check, treatment).inc()

    def greylisted(self, outcome: str) -> None:
        """See Figures."""
        counter = self._of_outcome.get(outcome)
        if counter is None:
            counter = self._of_outcome[outcome] = self._greylisting.labels(outcome)
        counter.inc()

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


class JobFigures(hooks.Figures):
    """The metrics of jobs. See Figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._running = Gauge("restante_jobs_running", "Jobs that run at this core.", ["kind"], registry=registry)
        self._ended = Counter(
            "restante_jobs_ended", "Jobs that ended at this core.", ["kind", "state"], registry=registry
        )
        for kind in JobKind:
            self._running.labels(kind.name.lower()).set(0)

    def running(self, kind: JobKind, jobs: int) -> None:
        """See Figures."""
        self._running.labels(kind.name.lower()).set(jobs)

    def ended(self, kind: JobKind, state: JobState) -> None:
        """See Figures."""
        self._ended.labels(kind.name.lower(), state.name.lower()).inc()


class StoreObserver(Observer):
    """The metrics of the database: write groups, reads, checkpoints and queues. Called on worker threads."""

    def __init__(self, registry: CollectorRegistry, *, sqlite: bool) -> None:
        self._registry = registry

        def seconds(name: str, what: str) -> Histogram:
            return Histogram(f"restante_{name}_seconds", what, buckets=SECONDS, registry=registry)

        self._groups = seconds("write_transaction_duration", "Duration of write transactions.")
        self._reads = seconds("read_duration", "Duration of read snapshots.")
        self._waits = seconds("read_wait_duration", "Time that reads waited for a thread.")
        self._operations = Counter(
            "restante_write_operations", "Number of operations in write transactions.", registry=registry
        )
        self._replays = Counter(
            "restante_write_replays",
            "Number of write transactions that ran again after a conflict or a lost connection.",
            registry=registry,
        )
        if sqlite:
            self._checkpoints = seconds("sqlite_checkpoint_duration", "Duration of SQLite checkpoints.")
            self._pages = Gauge(
                "restante_sqlite_log_pages",
                "Number of pages in SQLite's log at the last checkpoint.",
                registry=registry,
            )

    def watch(self, db: Database) -> None:
        """Add gauges of the database's queues."""
        for name, what, look in (
            ("write_pipeline_operations", "Number of writes in the pipeline.", lambda: db.queued_operations),
            ("write_pipeline_bytes", "Size of the writes in the pipeline.", lambda: db.queued_octets),
            (
                "write_pipeline_waiting",
                "Number of writes that wait for room in the pipeline.",
                lambda: db.waiting_writers,
            ),
            ("reads_in_progress", "Number of reads that wait or run.", lambda: db.waiting_reads),
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
        """See Observer. Called for SQLite only."""
        self._checkpoints.observe(seconds)
        self._pages.set(pages)
