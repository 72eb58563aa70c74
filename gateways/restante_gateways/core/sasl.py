"""The gateway's part of a SASL exchange, between a client's lines and the core. *Pure.*

The core verifies credentials; a gateway only decodes base64 and forwards octets. LOGIN is the exception, since it was
never standardised: the gateway sends its two prompts and passes PLAIN to the core, as for POP3's USER and PASS and
IMAP's LOGIN.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

MAX_LINE_OCTETS = 12_288  # base64 of one response, RFC 4954 4
# Some clients compare the prompts, so these are the ones of Postfix, Dovecot and Exchange. draft-murchison-sasl-login 2
# has others ("User Name" and "Password", each with a NUL).
LOGIN_PROMPTS = (b"Username:", b"Password:")


class Secret:
    """Octets that no log, traceback or error message may show."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def reveal(self) -> bytes:
        """The octets themselves, for the one call that needs them."""
        return self._octets

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised")


class MalformedResponse(ValueError):
    """The client's line is not base64, too long, or forbidden by the mechanism."""


class Cancelled(Exception):
    """The client cancelled the exchange with `*` (RFC 4954 4, RFC 5034 4, RFC 9051 6.2.2)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge to the client; `octets` are not in base64 yet (see `encode`)."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A response to the core: the client's next step of `mechanism`."""

    mechanism: str
    octets: Secret


class Exchange:
    """One exchange. Call `begin`, then `answer` for every line of the client, with the core's challenges between."""

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism.upper()  # RFC 4422 3.1: upper case only; clients send any
        self._login_name: bytes | None = None

    def begin(self, initial: bytes | None) -> Challenge | Response:
        """The first step. `initial` is the command's initial response, still in base64, or None.

        Raises MalformedResponse.
        """
        if initial is not None:
            return self._step(decode_initial(initial))
        return Challenge(LOGIN_PROMPTS[0] if self.mechanism == "LOGIN" else b"")

    def answer(self, line: bytes) -> Challenge | Response:
        """The next step, from the client's line without its CRLF. Raises Cancelled, MalformedResponse."""
        if line == b"*":
            raise Cancelled
        return self._step(decode(line))

    def _step(self, octets: bytes) -> Challenge | Response:
        if self.mechanism != "LOGIN":
            return Response(self.mechanism, Secret(octets))
        if self._login_name is None:
            self._login_name = octets
            return Challenge(LOGIN_PROMPTS[1])
        return Response("PLAIN", plain(self._login_name, octets))


def plain(name: bytes, password: bytes, authorization: bytes = b"") -> Secret:
    """A PLAIN message (RFC 4616 2). Raises MalformedResponse for a NUL, which separates the fields."""
    if b"\0" in name or b"\0" in password or b"\0" in authorization:
        raise MalformedResponse("NUL in a name or password")
    return Secret(b"%b\0%b\0%b" % (authorization, name, password))


def encode(octets: bytes) -> bytes:
    """A challenge in base64 on one line."""
    return binascii.b2a_base64(octets, newline=False)


def decode(line: bytes) -> bytes:
    """The octets of a base64 line; an empty line is an empty response. Raises MalformedResponse."""
    if len(line) > MAX_LINE_OCTETS:
        raise MalformedResponse("response too long")
    try:
        return binascii.a2b_base64(line, strict_mode=True) if line else b""
    except binascii.Error:
        raise MalformedResponse("not base64") from None


def decode_initial(text: bytes) -> bytes:
    """The octets of an initial response; `=` means an empty response (RFC 4954 4, RFC 4959 3).

    Raises MalformedResponse.
    """
    if text == b"=":
        return b""
    if not text:
        raise MalformedResponse("empty initial response")
    return decode(text)
