"""The Received field and the count of hops."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.trace import Hop, HopCounter, address_literal, count_hops, received_by_service, received_field

NOW = datetime(2026, 11, 23, 19, 5, 7, tzinfo=UTC)


def hop(**changes: object) -> Hop:
    facts: dict[str, object] = {
        "hello_name": "mail.example.net", "client_address": "192.0.2.7", "host_name": "mx.example.test",
        "extended": True, "tls": False, "authenticated": False, "smtputf8": False, "trace_id": "K7Q2", **changes,
    }  # fmt: skip
    return Hop(**facts)  # type: ignore[arg-type]


def test_received_states_the_hop_and_no_recipient() -> None:
    assert received_field(hop(), NOW) == (
        b"Received: from mail.example.net ([192.0.2.7])\r\n"
        b" by mx.example.test with ESMTP id K7Q2;\r\n"
        b" Mon, 23 Nov 2026 19:05:07 +0000\r\n"
    )


def test_received_of_a_message_that_came_by_no_mail_protocol() -> None:
    assert received_by_service("mx.example.test", "Restante API", "K7Q2", NOW) == (
        b"Received: by mx.example.test (Restante API) id K7Q2;\r\n Mon, 23 Nov 2026 19:05:07 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("extended", "tls", "authenticated", "smtputf8", "protocol"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),
        (True, False, True, False, "ESMTPA"),
        (True, True, True, False, "ESMTPSA"),  # RFC 3848 1
        (True, False, False, True, "UTF8SMTP"),  # RFC 6531 4.3
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_with_clause(extended: bool, tls: bool, authenticated: bool, smtputf8: bool, protocol: str) -> None:
    facts = hop(extended=extended, tls=tls, authenticated=authenticated, smtputf8=smtputf8)
    assert f" with {protocol} id ".encode() in received_field(facts, NOW)


@pytest.mark.parametrize(
    ("tls", "smtputf8", "protocol"),
    [(False, False, "LMTP"), (True, False, "LMTPS"), (False, True, "UTF8LMTP"), (True, True, "UTF8LMTPS")],
)
def test_with_clause_of_lmtp(tls: bool, smtputf8: bool, protocol: str) -> None:
    facts = hop(lmtp=True, tls=tls, smtputf8=smtputf8)
    assert f" with {protocol} id ".encode() in received_field(facts, NOW)  # RFC 3848 1, RFC 6531 4.3


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("", ""),
        ("/run/socket", ""),
    ],
)
def test_address_literals(address: str, literal: str) -> None:
    assert address_literal(address) == literal


@given(st.lists(st.sampled_from([b"Received: a\r\n", b"RECEIVED : b\r\n c\r\n", b"X-Received: d\r\n", b"Subject: e\r\n",
                                 b"Received-SPF: pass\r\n", b"To: x\r\n Received: folded\r\n"]), max_size=30),
       st.integers(1, 70))  # fmt: skip
def test_hops_are_counted_in_the_header_alone_at_any_cut(fields: list[bytes], size: int) -> None:
    header = b"".join(fields)
    octets = header + b"\r\nReceived: in the body\r\n\r\nReceived: again\r\n"
    counter = HopCounter()
    for start in range(0, len(octets), size):
        counter.feed(octets[start : start + size])
    oracle = len(message_from_bytes(header.replace(b"RECEIVED :", b"Received:")).get_all("Received", []))
    assert counter.hops == count_hops(header) == oracle


def test_counting_holds_little_memory_in_an_endless_header() -> None:
    counter = HopCounter()
    for _ in range(100):
        counter.feed(b"X" * 65_536)
        assert counter._carry is not None
        assert len(counter._carry) < 200
