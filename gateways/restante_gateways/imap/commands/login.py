"""STARTTLS, AUTHENTICATE and LOGIN (RFC 3501 6.2; RFC 4959)."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass

from restante import errors
from restante_gateways.core import sasl
from restante_gateways.core.login import by_exchange, by_password
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import NOT_AUTHENTICATED, command, extension
from restante_gateways.imap.core.login import NewSession
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status, continuation

_MECHANISM = re.compile(rb"[A-Za-z0-9_\-]{1,20}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]+")

extension("SASL-IR", offered=NOT_AUTHENTICATED)


@command("STARTTLS", state=NOT_AUTHENTICATED, announces=False)
@dataclass(frozen=True)
class StartTls:
    """Start TLS after the response, and discard octets received before. RFC 3501 6.2.1, RFC 9051 11.1."""

    @classmethod
    def parse(cls, p: Parser) -> StartTls:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        if not s.may_start_tls:
            return BAD("TLS not available.")
        s.start_tls_after_answer()
        return OK("Begin the TLS handshake.")


@command("AUTHENTICATE", state=NOT_AUTHENTICATED, announces=False)
@dataclass(frozen=True)
class Authenticate:
    """Log in by SASL. RFC 3501 6.2.2; initial responses RFC 4959."""

    mechanism: str
    initial: sasl.Secret | None  # still in base64

    @classmethod
    def parse(cls, p: Parser) -> Authenticate:
        mechanism = p.sp().match(_MECHANISM, "mechanism")[0].decode("ascii").upper()
        initial = None
        if not p.at_end:
            initial = sasl.Secret(p.sp().match(_BASE64, "base64")[0])
        p.end()
        return cls(mechanism, initial)

    async def run(self, s: Session) -> Status:
        if not s.may_authenticate:
            return NO("Authentication needs TLS; use STARTTLS first.", b"PRIVACYREQUIRED")
        if self.mechanism not in s.mechanisms:
            return NO("The mechanism is not supported.", b"CANNOT")
        initial = None if self.initial is None else self.initial.reveal()

        async def ask(challenge: bytes) -> bytes:
            s.client.write(continuation(challenge))
            return await s.client.next_line()

        return await _log_in(s, by_exchange(s.verify, self.mechanism, initial, ask))


@command("LOGIN", state=NOT_AUTHENTICATED, announces=False)
@dataclass(frozen=True)
class Login:
    """Log in by name and password. RFC 3501 6.2.3."""

    name: bytes
    password: sasl.Secret

    @classmethod
    def parse(cls, p: Parser) -> Login:
        name = p.sp().astring()
        password = sasl.Secret(p.sp().astring())
        p.end()
        return cls(name, password)

    async def run(self, s: Session) -> Status:
        if not s.may_authenticate:
            return NO(
                "Authentication needs TLS; use STARTTLS first.", b"PRIVACYREQUIRED"
            )  # LOGINDISABLED, RFC 3501 6.2.3
        return await _log_in(s, by_password(s.verify, sasl.plain(self.name, self.password.reveal())))


async def _log_in(s: Session, proof: Awaitable[NewSession]) -> Status:
    """Log in with the session that the core returns for these credentials. Raises restante.errors."""
    try:
        session = await proof
    except errors.AuthenticationFailed:
        s.login_failed()
        raise
    except sasl.Cancelled:
        return BAD("Authentication cancelled.")  # RFC 3501 6.2.2
    except sasl.MalformedResponse as error:
        return BAD(f"Authentication failed: {error}.")
    s.logged_in(session)
    return OK("Login completed.", b"CAPABILITY " + s.capability_text())
