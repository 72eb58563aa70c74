"""The rules of greylisting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.results import Identity, Result, ReverseDnsResult, SpfResult
from restante_server.transport.greylisting.policy import (
    DAY,
    HOUR,
    MINUTE,
    Decision,
    GreylistSettings,
    Outcome,
    Seen,
    decide,
    passes_check,
)

SETTINGS = GreylistSettings(wait=5 * MINUTE, retry_within=DAY, keep=35 * DAY)
NOW = 1_800_000_000_000_000


def waiting(age: int) -> Seen:
    """A triplet that was deferred this long ago."""
    return Seen(NOW - age, NOW - age, False, NOW - age + SETTINGS.retry_within)


def known(age: int) -> Seen:
    """A triplet whose last use was noted this long ago."""
    return Seen(NOW - 10 * DAY - age, NOW - age, True, NOW - age + SETTINGS.keep)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, Decision(Outcome.NEW, 5 * MINUTE, writes=True)),
        (waiting(0), Decision(Outcome.EARLY, 5 * MINUTE)),
        (waiting(4 * MINUTE), Decision(Outcome.EARLY, MINUTE)),
        (waiting(5 * MINUTE - 1), Decision(Outcome.EARLY, 1)),
        (waiting(5 * MINUTE), Decision(Outcome.RETRIED, writes=True)),
        (waiting(DAY - 1), Decision(Outcome.RETRIED, writes=True)),
        (waiting(DAY), Decision(Outcome.NEW, 5 * MINUTE, writes=True)),  # too late: a first attempt again
        (waiting(-HOUR), Decision(Outcome.EARLY, 5 * MINUTE)),  # the clock went back
        (known(0), Decision(Outcome.KNOWN)),
        (known(HOUR), Decision(Outcome.KNOWN, writes=True)),
        (known(35 * DAY - 1), Decision(Outcome.KNOWN, writes=True)),
        (known(35 * DAY), Decision(Outcome.NEW, 5 * MINUTE, writes=True)),
    ],
)
def test_the_decision_about_a_triplet(seen: Seen | None, expected: Decision) -> None:
    assert decide(seen, NOW, SETTINGS) == expected


@given(st.integers(0, 3 * DAY), st.integers(0, 10 * MINUTE), st.booleans())
def test_a_wait_is_told_exactly_when_the_mail_is_deferred(age: int, wait: int, is_known: bool) -> None:
    settings = GreylistSettings(wait=wait, retry_within=DAY)
    made = decide(Seen(NOW - age, NOW - age, is_known, NOW - age + DAY), NOW, settings)
    assert made.outcome.is_deferred or made.wait == 0
    assert made.wait <= wait
    if made.outcome is Outcome.EARLY:
        later = decide(Seen(NOW - age, NOW - age, is_known, NOW - age + DAY), NOW + made.wait, settings)
        assert later.outcome is Outcome.RETRIED


def spf(identity: Identity, result: Result = Result.PASS) -> SpfResult:
    return SpfResult(result, identity, "example.org")


NAMED = ReverseDnsResult(Result.PASS, "mx.example.org")
FORGED = ReverseDnsResult(Result.FAIL)


@pytest.mark.parametrize(
    ("skipped", "results", "reverse_dns", "passes"),
    [
        ((), [spf(Identity.MAILFROM), spf(Identity.HELO)], NAMED, False),
        (("spf",), [spf(Identity.MAILFROM)], None, True),
        (("spf",), [spf(Identity.HELO)], NAMED, False),
        (("spf",), [spf(Identity.MAILFROM, Result.SOFTFAIL)], None, False),
        (("helo",), [spf(Identity.HELO), spf(Identity.MAILFROM, Result.FAIL)], None, True),
        (("reverse-dns",), [], NAMED, True),
        (("reverse-dns",), [spf(Identity.MAILFROM)], FORGED, False),
        (("spf", "reverse-dns"), [], None, False),
    ],
)
def test_clients_that_pass_a_check_are_not_asked(
    skipped: tuple[str, ...], results: list[SpfResult], reverse_dns: ReverseDnsResult | None, passes: bool
) -> None:
    settings = GreylistSettings(skip_passing=frozenset(skipped))
    assert passes_check(tuple(results), reverse_dns, settings) is passes
