"""The retry schedule: delays grow, spread, and end (RFC 5321 4.5.4.1)."""

from __future__ import annotations

import pytest

from restante_server.transport.schedule import DAY, HOUR, MINUTE, Schedule

NOW = 1_000 * DAY


@pytest.mark.parametrize(
    ("attempts", "pause"),
    [(1, 15 * MINUTE), (2, 30 * MINUTE), (3, HOUR), (4, 2 * HOUR), (5, 4 * HOUR), (6, 4 * HOUR), (10_000, 4 * HOUR)],
)
def test_pauses_double_up_to_the_longest_and_are_spread(attempts: int, pause: int) -> None:
    # RFC 5321 4.5.4.1
    schedule = Schedule()
    for jitter, factor in ((0.0, 0.8), (0.5, 1.0), (0.999, 1.2)):
        due_at = schedule.next_attempt(NOW, attempts, NOW, jitter)
        assert due_at - NOW == pytest.approx(pause * factor, rel=0.001)


def test_the_last_attempt_is_at_the_moment_of_expiry() -> None:
    schedule = Schedule()
    assert schedule.next_attempt(NOW + 5 * DAY - MINUTE, 9, NOW, 0.5) == schedule.expires_at(NOW) == NOW + 5 * DAY
    assert schedule.next_attempt(NOW + 6 * DAY, 9, NOW, 0.5) == NOW + 6 * DAY


def test_a_sender_gets_a_delay_report_after_four_hours() -> None:
    assert Schedule().warn_at(NOW) == NOW + 4 * HOUR
