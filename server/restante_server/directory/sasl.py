"""The server's side of SASL: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), a step at a time. *Pure*.

A step gets the client's response and what the step before left; it gives a challenge with what to keep, or the name
and password. How the kept state travels, sealed and good for one use, is `exchanges.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from restante.errors import AuthenticationFailed, InvalidAddress, InvalidArgument, MechanismNotSupported
from restante_server.directory import addresses
from restante_server.directory.secret import Secret

MECHANISMS = ("PLAIN", "LOGIN")
MAX_RESPONSE_OCTETS = 12_288  # RFC 4954 4
MAX_NAME_OCTETS = 1_024


@dataclass(frozen=True, slots=True)
class Challenge:
    """To be sent to the client; `state` must come back with its response."""

    octets: bytes
    state: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The client's name, as it was sent, and password."""

    name: str
    password: Secret


def step(mechanism: str, response: bytes | None, state: bytes) -> Challenge | Proof:
    """One step; `state` is b"" at the first.

    Raises MechanismNotSupported, InvalidArgument (too long), AuthenticationFailed (not what the mechanism has, or a
    wish to act as somebody else).
    """
    if mechanism not in MECHANISMS:
        raise MechanismNotSupported(mechanism=mechanism[:20])
    if response is not None and len(response) > MAX_RESPONSE_OCTETS:
        raise InvalidArgument(field="response", problem=f"more than {MAX_RESPONSE_OCTETS} octets")
    return _plain(response) if mechanism == "PLAIN" else _login(response, state)


def _plain(response: bytes | None) -> Challenge | Proof:
    if response is None:
        return Challenge(b"", b"P")
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise AuthenticationFailed  # RFC 4616 2: message = [authzid] NUL authcid NUL passwd
    acting_for, name, password = parts
    if acting_for and not _same(_text(acting_for), _text(name)):
        raise AuthenticationFailed
    return Proof(_text(name), Secret.from_octets(password))


def _login(response: bytes | None, state: bytes) -> Challenge | Proof:
    if state.startswith(b"N"):
        if not response:
            raise AuthenticationFailed
        return Proof(_text(state[1:]), Secret.from_octets(response))
    if response is None:
        return Challenge(b"Username:", b"L")  # what clients compare it with, not what the draft has
    if not response or len(response) > MAX_NAME_OCTETS:
        raise AuthenticationFailed
    return Challenge(b"Password:", b"N" + response)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _same(one: str, other: str) -> bool:
    try:
        return one == other or addresses.key(one) == addresses.key(other)
    except InvalidAddress:
        return False
