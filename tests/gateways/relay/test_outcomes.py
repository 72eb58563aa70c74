"""The outcome of each reply."""

from __future__ import annotations

import pytest

from restante_gateways.relay.outcomes import (
    MAX_DIAGNOSTIC_OCTETS,
    Outcome,
    deferred,
    failed,
    from_reply,
    too_many,
    visible,
    worse,
)


@pytest.mark.parametrize(
    ("code", "text", "relayed", "final", "status"),
    [
        (250, "2.0.0 Ok: queued", True, False, "2.0.0"),
        (250, "Ok", True, False, "2.0.0"),
        (251, "2.1.5 will forward", True, False, "2.1.5"),
        (450, "4.2.0 greylisted", False, False, "4.2.0"),
        (421, "busy", False, False, "4.0.0"),
        (550, "5.1.1 no such user", False, True, "5.1.1"),
        (550, "no such user", False, True, "5.0.0"),
        (550, "4.1.1 confused", False, True, "5.0.0"),
        (450, "5.1.1 confused", False, False, "4.0.0"),
        (550, "5.1.1", False, True, "5.1.1"),
        (550, "5.1.1999 no code", False, True, "5.0.0"),
        (550, "hello\n5.1.1 on a later line", False, True, "5.1.1"),
    ],
)
def test_the_code_decides_and_the_enhanced_code_tells_more(
    code: int, text: str, relayed: bool, final: bool, status: str
) -> None:  # RFC 5321 4.2.1, RFC 2034 4
    outcome = from_reply(code, text, "mx.example.net")
    assert (outcome.relayed, outcome.final, outcome.status) == (relayed, final, status)
    assert outcome.deferred is not (relayed or final)


def test_a_reply_of_many_lines_becomes_one_without_repeated_codes() -> None:
    outcome = from_reply(550, "5.7.1 rejected\n5.7.1 see the page\nof rules", "mx.example.net")
    assert outcome.diagnostic == "550 5.7.1 rejected see the page of rules"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\tc", "a b c"),
        ("nul\0 and bell\x07", "nul and bell"),
        ("caf\udce9", "caf\ufffd"),
        ("caf\udcc3\udca9", "café"),
        ("é" * 300, "é" * (MAX_DIAGNOSTIC_OCTETS // 2)),
    ],
)
def test_what_another_server_says_is_one_line_of_text(text: str, expected: str) -> None:
    assert visible(text) == expected
    visible(text).encode()  # no lone surrogate is left, which protobuf could not carry


def test_full_is_no_refusal() -> None:  # RFC 5321 4.5.3.1.10
    assert too_many(452, from_reply(452, "4.5.3 too many", ""), 3)
    assert too_many(552, from_reply(552, "too many recipients", ""), 3)
    assert not too_many(452, from_reply(452, "4.5.3 too many", ""), 0)
    assert not too_many(452, from_reply(452, "4.2.2 mailbox full", ""), 3)
    assert not too_many(552, from_reply(552, "5.2.2 mailbox full", ""), 3)
    assert not too_many(550, from_reply(550, "no", ""), 3)


def test_only_when_every_server_refuses_for_good_is_it_for_good() -> None:
    later, never = deferred("4.4.1", "silent"), failed("5.5.0", "go away")
    assert worse(None, never) is never
    assert worse(later, never) is later
    assert worse(never, later) is later
    other: Outcome = failed("5.7.1", "no")
    assert worse(never, other) is other
