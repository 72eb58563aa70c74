"""The short form of the kill test: a few rounds, one for each kind of process that mail passes through."""

from __future__ import annotations

import pytest

from tests.faults.kill_rounds import one_round, running


@pytest.mark.faults
def test_nothing_acknowledged_is_lost_or_doubled_when_processes_are_killed() -> None:
    with running("") as (supervisor, base, directory):
        outcomes = [one_round(supervisor, base, directory, victim) for victim in ("core", "smtp", "imap", "all")]
    assert all(outcome.get("accepted") for outcome in outcomes), outcomes
