"""The table of replies has every reason, and no internal fault gives a permanent reply."""

from __future__ import annotations

import grpc
import pytest

from restante import errors
from restante_gateways.smtp.errors import REPLIES, reply_to
from restante_gateways.smtp.replies import OTHERWISE


def test_every_reason_has_its_row() -> None:
    assert REPLIES.keys() == set(errors.BY_REASON.values())


def test_what_no_client_causes_is_never_permanent() -> None:
    for cls in errors.BY_REASON.values():
        if not cls.caused_by_client and cls is not errors.MessageRefused:  # by an SMTP client, but by none of the API
            assert not reply_to(cls()).is_permanent, cls


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), KeyError("y"), errors.UnknownReason("gone", grpc.StatusCode.UNAVAILABLE), errors.Draining()],
)
def test_what_is_not_known_is_temporary(error: Exception) -> None:
    assert reply_to(error) is OTHERWISE


@pytest.mark.parametrize(
    ("error", "code", "enhanced"),
    [
        (errors.RecipientNotFound(), 550, "5.1.1"),
        (errors.RelayDenied(), 550, "5.7.1"),
        (errors.QuotaExceeded(), 452, "4.2.2"),
        (errors.StoreFull(), 452, "4.3.1"),
        (errors.MessageTooLarge(), 552, "5.3.4"),
        (errors.SenderNotPermitted(), 550, "5.7.1"),
        (errors.MailLoop(), 554, "5.4.6"),
        (errors.AuthenticationFailed(), 535, "5.7.8"),
    ],
)
def test_codes_that_others_rely_on(error: errors.RestanteError, code: int, enhanced: str) -> None:
    assert (reply_to(error).code, reply_to(error).enhanced) == (code, enhanced)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InvalidContent(problem="two From fields"), "two From fields"),
        (errors.InvalidContent(), "The message content is not acceptable"),
        (errors.InvalidArgument(field="envelope_id", problem="not a parameter"), "envelope_id: not a parameter"),
        (errors.InvalidAddress(address="a@b@c", problem="has no domain"), "Bad address a@b@c: it has no domain"),
        (
            errors.SenderNotPermitted(address="b\u00f6b@example.test", field="From (name)"),
            "You may not send as b?b@example.test (From (name))",
        ),
        (
            errors.SenderNotPermitted(address="bob@example.test", field="From", problem="why"),
            "You may not send as bob@example.test (From): why",
        ),
        (errors.MailLoop(problem="every recipient has had it"), "Mail loop detected: every recipient has had it"),
    ],
)
def test_a_refusal_says_which_field_and_why(error: errors.RestanteError, text: str) -> None:
    assert reply_to(error).text == text


def test_what_the_core_quotes_cannot_break_a_line() -> None:
    octets = reply_to(errors.InvalidContent(problem="a\r\n250 OK" + "x" * 900)).encode()
    assert octets.count(b"\r\n") == 1
    assert len(octets) <= 512
