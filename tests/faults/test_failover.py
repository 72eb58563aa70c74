"""The short form of `python -m tests.faults.failover_rounds`: one core of two is killed, then the other is ended."""

from __future__ import annotations

import signal

import pytest

from tests.faults.failover_rounds import Idler, one_round, running
from tests.harness.postgres import PostgresServer


@pytest.mark.faults
@pytest.mark.postgres
@pytest.mark.slow
def test_sessions_go_on_and_nothing_is_lost_or_doubled_when_one_of_two_cores_goes(postgres: PostgresServer) -> None:
    with postgres.database() as store, running(store) as house:
        idler = Idler(house)
        outcomes = [one_round(house, idler, how) for how in (signal.SIGKILL, signal.SIGTERM)]
        idler.close()
    assert all(outcome.get("accepted") for outcome in outcomes), outcomes
    assert {outcome["core"] for outcome in outcomes} == {1, 2}  # the killed core has restarted and taken over
