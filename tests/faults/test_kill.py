"""The short form of `python -m tests.faults.kill_rounds`: one round for each kind of process that handles mail."""

from __future__ import annotations

import pytest

from tests.faults.kill_rounds import one_round, running

QUEUED = 3_000  # recipients of a domain that takes no mail
PATIENCE_SECONDS = 20.0  # until the core is ready: tests share their machine; the long form requires five seconds


@pytest.mark.faults
def test_nothing_acknowledged_is_lost_or_doubled_when_processes_are_killed() -> None:
    with running("") as (supervisor, base, directory):
        outcomes = [
            one_round(supervisor, base, directory, victim, PATIENCE_SECONDS)
            for victim in ("core", "smtp", "imap", "all")
        ]
    assert all(outcome.get("accepted") for outcome in outcomes), outcomes


@pytest.mark.faults
def test_a_full_queue_survives_kills_beside_live_mail() -> None:
    """The short form of `make kill-queue`."""
    with running("", QUEUED) as (supervisor, base, directory):
        outcomes = [
            one_round(supervisor, base, directory, victim, PATIENCE_SECONDS, QUEUED) for victim in ("core", "relay")
        ]
    assert all(outcome.get("accepted") for outcome in outcomes), outcomes
