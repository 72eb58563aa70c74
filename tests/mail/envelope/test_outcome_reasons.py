"""The reason of an outcome, from its status code and its reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.v1.outcomes_pb2 import OutcomeReason
from restante_mail.envelope.outcome_reasons import Reason, reason_of


def test_the_numbers_are_those_of_the_contract() -> None:
    ours = {(reason.name if reason else "UNSPECIFIED"): int(reason) for reason in Reason}
    assert ours == {name.removeprefix("OUTCOME_REASON_"): number for name, number in OutcomeReason.items()}


@pytest.mark.parametrize(
    ("status", "diagnostic", "reason"),
    [
        ("", "", Reason.NONE),
        ("2.0.0", "250 ok", Reason.NONE),
        ("5.1.1", "550 5.1.1 no such user", Reason.BAD_ADDRESS),  # RFC 3463 3.2
        ("5.1.2", "the domain nowhere.example does not exist", Reason.BAD_ADDRESS),
        ("5.1.10", "the domain quiet.example accepts no mail (null MX)", Reason.BAD_ADDRESS),
        ("4.1.1", "450 4.1.1 lookup failed", Reason.TEMPORARY),
        ("5.1.8", "553 5.1.8 sender's domain", Reason.BAD_SENDER),
        ("5.2.1", "550 5.2.1 disabled", Reason.MAILBOX_DISABLED),
        ("5.2.2", "552 5.2.2 full", Reason.MAILBOX_FULL),
        ("4.2.2", "452 4.2.2 full", Reason.MAILBOX_FULL),
        ("5.2.3", "552 5.2.3 too long", Reason.SIZE),
        ("5.3.4", "552 5.3.4 too big", Reason.SIZE),
        ("4.3.2", "421 4.3.2 shutting down", Reason.TEMPORARY),
        ("5.3.2", "554 5.3.2 no service", Reason.OTHER),
        ("4.4.1", "mx.example.net [192.0.2.1]: cannot connect", Reason.CONNECTION),
        ("4.4.3", "the name servers did not answer in time", Reason.ROUTING),
        ("5.4.6", "mail for x would loop back to this server", Reason.ROUTING),
        ("4.4.7", "the time for delivery attempts is over", Reason.EXPIRED),
        ("5.5.4", "555 5.5.4 parameter", Reason.PROTOCOL),
        ("5.6.3", "no 8BITMIME", Reason.CONTENT),
        ("5.7.1", "550 5.7.1 user unknown to our policy", Reason.POLICY),
        ("4.7.1", "450 4.7.1 greylisted", Reason.POLICY),
        ("5.7.26", "550 5.7.26 DMARC", Reason.POLICY),
        ("4.7.5", "TLS: certificate refused", Reason.TLS),
        ("5.7.10", "550 5.7.10 encryption needed", Reason.TLS),
        ("4.7.8", "the login of this relay was refused: 535 5.7.8 no", Reason.AUTHENTICATION),
        ("5.7.0", "530 5.7.0 authentication required", Reason.AUTHENTICATION),
        ("5.7.0", "550 5.7.0 no", Reason.POLICY),
        # Replies without an enhanced code: the reply code, and for 550 and 554 a few texts.
        ("5.0.0", "550 User unknown", Reason.BAD_ADDRESS),
        ("5.0.0", "550 No such user here", Reason.BAD_ADDRESS),
        ("5.0.0", "550 Mailbox full", Reason.MAILBOX_FULL),
        ("5.0.0", "550 Go away", Reason.OTHER),
        ("5.0.0", "554 Message refused", Reason.OTHER),
        ("5.0.0", "551 User not local", Reason.BAD_ADDRESS),
        ("5.0.0", "552 Exceeded storage allocation", Reason.MAILBOX_FULL),
        ("5.0.0", "553 Mailbox name not allowed", Reason.BAD_ADDRESS),
        ("5.0.0", "mx.example.net: 553 Mailbox name not allowed", Reason.BAD_ADDRESS),
        ("5.0.0", "[mx.example.net] 553 Mailbox name not allowed", Reason.BAD_ADDRESS),
        ("5.0.0", "user unknown", Reason.OTHER),  # no server said so
        ("4.0.0", "450 User unknown", Reason.TEMPORARY),
        ("4.0.0", "451 Try again", Reason.TEMPORARY),
        ("5.9.9", "559 what", Reason.OTHER),
    ],
)
def test_reasons(status: str, diagnostic: str, reason: Reason) -> None:
    assert reason_of(status, diagnostic) is reason


@given(st.text(max_size=20) | st.from_regex(r"[245]\.\d{1,3}\.\d{1,3}", fullmatch=True), st.text(max_size=2_000))
def test_whatever_is_reported_has_a_reason(status: str, diagnostic: str) -> None:
    assert reason_of(status, diagnostic) in Reason
