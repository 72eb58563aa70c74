"""The short form of `python -m tests.faults.connection_storm`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.connection_storm import run

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROUNDS = 12


def test_a_core_lives_through_a_storm_of_connections_while_its_certificate_changes(tmp_path: Path) -> None:
    outcome = run(tmp_path, ROUNDS)
    assert outcome.problem == ""
    assert (outcome.rounds, outcome.by_socket) == (ROUNDS, ROUNDS)
    assert outcome.served >= 2 and outcome.replaced > ROUNDS / 2
