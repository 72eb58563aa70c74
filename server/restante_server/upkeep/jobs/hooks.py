"""The interface through which the runner reports its metrics; the default does nothing."""

from __future__ import annotations

from restante_server.upkeep.jobs.records import JobKind, JobState


class Figures:
    """The runner of one core calls these methods on the event loop."""

    def running(self, kind: JobKind, jobs: int) -> None:
        """So many jobs of this kind run at this core now."""

    def ended(self, kind: JobKind, state: JobState) -> None:
        """A job ended at this core in this final state."""
