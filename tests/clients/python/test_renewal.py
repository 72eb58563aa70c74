"""The moment of a session token's renewal."""

from __future__ import annotations

import pytest

from restante.renewal import Renewal
from restante.v1.session_pb2 import Session


@pytest.mark.parametrize(
    ("lifetime_seconds", "spread", "due", "pause"),
    [
        (900.0, 0.0, 450.0, 20.0),
        (900.0, 1.0, 405.0, 20.0),
        (60.0, 0.0, 30.0, 3.0),
        (3.0, 0.5, 1.425, 0.2),
        (0.0, 0.0, 0.2, 0.2),
    ],
)
def test_a_token_is_renewed_at_half_its_life(lifetime_seconds: float, spread: float, due: float, pause: float) -> None:
    session = Session(lifetime_milliseconds=int(lifetime_seconds * 1_000))
    renewal = Renewal.of(session, 1_000.0, spread)
    assert renewal.due_at == pytest.approx(1_000.0 + due)
    assert renewal.lapses_at == pytest.approx(1_000.0 + lifetime_seconds)
    assert renewal.pause_seconds == pytest.approx(pause)


def test_clocks_of_machines_are_not_compared() -> None:
    session = Session(lifetime_milliseconds=900_000)
    session.expires_at.FromSeconds(1)  # long ago, by the clock here
    assert Renewal.of(session, 5.0).due_at == 455.0
