"""The client's side of SASL mechanisms."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.relay.sasl import LoginFailed, chosen, mechanism

NONCE = base64.b64decode("rOprNGfwEbeRWgbNEkqO")
SERVER_NONCE = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"r=" + SERVER_NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"c=biws,r=" + SERVER_NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_scram_as_in_its_rfc() -> None:  # RFC 7677 3
    scram = mechanism("SCRAM-SHA-256", "user", "pencil", NONCE)
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.answer(FIRST) == PROOF
    assert scram.answer(SIGNATURE) == b""
    assert scram.finished
    with pytest.raises(LoginFailed):
        scram.answer(b"")


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",  # a nonce without the server's part
        FIRST.replace(b"i=4096", b"i=4095"),  # RFC 7677 4
        FIRST.replace(b"i=4096", b"i=99999999"),
        FIRST.replace(b"i=4096", b"i=" + b"9" * 5_000),
        FIRST.replace(b"i=4096", b"i=-5"),
        FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=%"),
        FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="),
        b"m=x," + FIRST,  # RFC 5802 5.1: an extension that must be understood
    ],
)
def test_a_scram_challenge_that_cannot_be_met(challenge: bytes) -> None:
    scram = mechanism("SCRAM-SHA-256", "user", "pencil", NONCE)
    scram.first()
    with pytest.raises(LoginFailed):
        scram.answer(challenge)
    assert not scram.finished


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", b"v=%", b"e=invalid-proof"])
def test_a_server_that_does_not_prove_itself_is_not_trusted(final: bytes) -> None:  # RFC 5802 5
    scram = mechanism("SCRAM-SHA-256", "user", "pencil", NONCE)
    scram.answer(FIRST)
    with pytest.raises(LoginFailed):
        scram.answer(final)
    assert not scram.finished


@given(st.binary(max_size=200))
def test_any_challenge_is_answered_or_refused(challenge: bytes) -> None:
    for name in ("SCRAM-SHA-256", "PLAIN", "LOGIN", "XOAUTH2"):
        one = mechanism(name, "user", "pencil", NONCE)
        one.first()
        with contextlib.suppress(LoginFailed):
            one.answer(challenge)


def test_the_other_mechanisms() -> None:
    plain = mechanism("PLAIN", "tim", "tanstaaftanstaaf", NONCE)  # RFC 4616 4
    assert plain.first() == b"\0tim\0tanstaaftanstaaf" and plain.finished
    login = mechanism("LOGIN", "tim", "secret", NONCE)
    assert login.first() is None
    assert login.answer(b"Username:") == b"tim" and login.answer(b"Password:") == b"secret" and login.finished
    with pytest.raises(LoginFailed):
        login.answer(b"more?")
    token = mechanism("XOAUTH2", "a@example.com", "ya29.vF9dft4", NONCE)
    assert token.first() == b"user=a@example.com\x01auth=Bearer ya29.vF9dft4\x01\x01"
    assert token.answer(b'{"status":"401"}') == b""


def test_names_are_escaped_for_scram() -> None:  # RFC 5802 5.1
    assert b"n=a=3Db=2Cc," in (mechanism("SCRAM-SHA-256", "a=b,c", "x", NONCE).first() or b"")


@pytest.mark.parametrize(
    ("wanted", "offered", "name"),
    [
        ("any", ["login", "plain", "scram-sha-256"], "SCRAM-SHA-256"),
        ("any", ["LOGIN", "PLAIN"], "PLAIN"),
        ("any", ["xoauth2", "login"], "LOGIN"),
        ("LOGIN", ["login", "plain"], "LOGIN"),
        ("XOAUTH2", ["xoauth2"], "XOAUTH2"),
        ("any", ["xoauth2", "gssapi"], ""),
        ("any", [], ""),
        ("PLAIN", ["login"], ""),
    ],
)
def test_the_mechanism_is_one_that_both_know(wanted: str, offered: list[str], name: str) -> None:
    if name:
        assert chosen(wanted, offered) == name
    else:
        with pytest.raises(LoginFailed):
            chosen(wanted, offered)
