"""SASL exchanges: base64 rules, cancel, LOGIN's prompts, and secrets with a safe repr."""

from __future__ import annotations

import base64
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.core.sasl import (
    MAX_LINE_OCTETS,
    Cancelled,
    Challenge,
    Exchange,
    MalformedResponse,
    Response,
    Secret,
    decode,
    decode_initial,
    encode,
    plain,
)


def carried(step: Challenge | Response) -> tuple[str, bytes]:
    assert isinstance(step, Response)
    return step.mechanism, step.octets.reveal()


def test_plain_with_an_initial_response_goes_to_the_core_as_it_is() -> None:
    exchange = Exchange("plain")
    message = b"\0alice@example.test\0alice-demo"
    assert carried(exchange.begin(base64.b64encode(message))) == ("PLAIN", message)


def test_plain_without_one_asks_with_an_empty_challenge() -> None:
    exchange = Exchange("PLAIN")
    assert exchange.begin(None) == Challenge(b"")
    assert carried(exchange.answer(base64.b64encode(b"\0alice\0x"))) == ("PLAIN", b"\0alice\0x")


def test_equals_sign_is_the_empty_initial_response() -> None:  # RFC 4954 4, RFC 4959 3, RFC 5034 4
    assert carried(Exchange("EXTERNAL").begin(b"=")) == ("EXTERNAL", b"")
    with pytest.raises(MalformedResponse):
        decode(b"=")  # but not a later one


def test_login_is_asked_here_and_becomes_plain() -> None:
    exchange = Exchange("Login")
    assert exchange.begin(None) == Challenge(b"Username:")  # some clients compare it
    assert exchange.answer(base64.b64encode(b"alice@example.test")) == Challenge(b"Password:")
    password = base64.b64encode(b"pass word ")
    assert carried(exchange.answer(password)) == ("PLAIN", b"\0alice@example.test\0pass word ")


def test_login_takes_the_name_as_initial_response() -> None:
    exchange = Exchange("LOGIN")
    assert exchange.begin(base64.b64encode(b"alice")) == Challenge(b"Password:")
    assert carried(exchange.answer(base64.b64encode(b"x"))) == ("PLAIN", b"\0alice\0x")


def test_a_nul_cannot_shift_the_fields_of_plain() -> None:
    exchange = Exchange("LOGIN")
    exchange.begin(base64.b64encode(b"alice\0bob"))
    with pytest.raises(MalformedResponse):
        exchange.answer(base64.b64encode(b"x"))
    with pytest.raises(MalformedResponse):
        plain(b"alice", b"a\0b")


def test_a_star_cancels() -> None:  # RFC 3501 6.2.2, RFC 5034 4
    exchange = Exchange("PLAIN")
    exchange.begin(None)
    with pytest.raises(Cancelled):
        exchange.answer(b"*")


@pytest.mark.parametrize(
    "line",
    [b"YWxpY2U", b"YWxpY2U==", b"YWxp Y2U=", b"YWxpY2U=\n", b"YWxpY2U=x", b"YW=pY2U=", b"YWxpY2\xc3", b"!", b"*x"],
)
def test_what_is_not_base64_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedResponse):
        decode(line)


def test_a_response_holds_12288_octets_of_base64() -> None:  # RFC 4954 4
    longest = b"A" * MAX_LINE_OCTETS
    assert len(decode(longest)) == MAX_LINE_OCTETS * 3 // 4
    with pytest.raises(MalformedResponse):
        decode(longest + b"AAAA")
    with pytest.raises(MalformedResponse):
        decode_initial(b"")


@given(st.binary(max_size=300))
def test_base64_round_trip(octets: bytes) -> None:
    assert b"\n" not in encode(octets)
    assert decode(encode(octets)) == octets


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(b"alice-demo")
    assert secret.reveal() == b"alice-demo"
    for text in (repr(secret), str(secret), f"{secret}", repr([secret]), repr(Response("PLAIN", secret))):
        assert "demo" not in text
    assert "Secret(...)" in repr(Response("PLAIN", secret))
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
