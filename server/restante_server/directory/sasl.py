"""The server's side of SASL: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), a step at a time. *Pure*.

A step takes the client's response and the state of the step before. It returns a challenge with the next state, or the
name and password. `exchanges.py` seals the state for its way through the client.
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
    """A challenge for the client; the client's next step needs `state`."""

    octets: bytes
    state: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The name as the client sent it, and the password."""

    name: str
    password: Secret


def step(mechanism: str, response: bytes | None, state: bytes) -> Challenge | Proof:
    """One step; `state` is b"" at the first.

    Raises MechanismNotSupported, InvalidArgument (too long), AuthenticationFailed (a malformed response, or an
    authorization identity of another account).
    """
    if mechanism not in MECHANISMS:
        raise MechanismNotSupported(mechanism=mechanism[:20])
    if response is not None and len(response) > MAX_RESPONSE_OCTETS:
        raise InvalidArgument(field="response", problem=f"must be at most {MAX_RESPONSE_OCTETS} octets long")
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
        return Challenge(b"Username:", b"L")  # clients compare with this text, which differs from the draft's
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
