"""PLAIN (RFC 4616) and LOGIN, step by step."""

from __future__ import annotations

import pytest

from restante.errors import AuthenticationFailed, InvalidArgument, MechanismNotSupported
from restante_server.directory import sasl
from restante_server.directory.sasl import Challenge, Proof


@pytest.mark.parametrize(
    "response",
    [
        b"\0alice@example.test\0secret word",
        b"alice@example.test\0alice@example.test\0secret word",
        b"Alice@EXAMPLE.test\0alice@example.test\0secret word",
    ],
)
def test_plain_gives_name_and_password(response: bytes) -> None:
    proof = sasl.step("PLAIN", response, b"")
    assert isinstance(proof, Proof)
    assert proof.name == "alice@example.test"
    assert proof.password.reveal() == "secret word"
    assert "secret" not in repr(proof)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"alice",
        b"\0alice@example.test",
        b"\0\0password",
        b"\0alice@example.test\0",
        b"\0a\0b\0c",
        b"bob@example.test\0alice@example.test\0secret word",  # to act as another
        b"bob\0alice\0secret word",
    ],
)
def test_plain_refuses_what_rfc_4616_does_not_have_and_acting_as_another(response: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        sasl.step("PLAIN", response, b"")


def test_plain_without_an_initial_response_is_asked_for_one() -> None:
    assert sasl.step("PLAIN", None, b"") == Challenge(b"", b"P")
    assert isinstance(sasl.step("PLAIN", b"\0alice@example.test\0x", b"P"), Proof)


def test_login_asks_for_the_name_and_then_for_the_password() -> None:
    first = sasl.step("LOGIN", None, b"")
    assert isinstance(first, Challenge)
    second = sasl.step("LOGIN", b"alice@example.test", first.state)
    assert isinstance(second, Challenge)
    proof = sasl.step("LOGIN", b"secret word", second.state)
    assert isinstance(proof, Proof)
    assert (proof.name, proof.password.reveal()) == ("alice@example.test", "secret word")


def test_login_takes_the_name_as_initial_response() -> None:
    second = sasl.step("LOGIN", b"alice@example.test", b"")
    assert isinstance(second, Challenge)
    assert isinstance(sasl.step("LOGIN", b"secret word", second.state), Proof)


def test_other_mechanisms_and_endless_responses_are_refused() -> None:
    for mechanism in ("CRAM-MD5", "plain", ""):
        with pytest.raises(MechanismNotSupported):
            sasl.step(mechanism, b"", b"")
    with pytest.raises(InvalidArgument):
        sasl.step("PLAIN", b"x" * 12_289, b"")
