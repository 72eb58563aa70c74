"""Limits and extensions of the sessions of one SMTP listener."""

from __future__ import annotations

import dataclasses
import enum
import sys
from dataclasses import dataclass

from restante_gateways.net.authentication import AuthenticationPolicy

MAX_ACCEPTED_RECIPIENTS = 1_000  # of one AcceptBegin of the contract


class Role(enum.Enum):
    """The purpose of a listener (RFC 5598)."""

    MX = "mx"  # accepts mail for local recipients from other MTAs
    SUBMISSION = "submission"  # accepts mail from local users, who must authenticate
    LMTP = "lmtp"  # accepts mail for local recipients from trusted servers (RFC 2033)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits and extensions of one listener. Exceeding a limit gets the SMTP reply for it."""

    role: Role
    host_name: str
    max_message_octets: int = 50 << 20  # offered as SIZE
    max_content_line_octets: int = 1 << 20  # large: real mail has long lines, and no line is buffered
    max_recipients: int = 1000  # of one message; RFC 5321 4.5.3.1.8 requires at least 100
    max_command_octets: int = 4096  # except AUTH, with 12,288 by RFC 4954
    max_errors: int = 20  # permanent errors since the last accepted message, then 421
    max_idle_commands: int = 100  # commands without mail (NOOP, RSET, VRFY, ...) since the last message, then 421
    max_login_attempts: int = 3
    max_hops: int = 100  # Received fields, RFC 5321 6.3
    command_timeout_seconds: float = 300.0  # RFC 5321 4.5.3.2.7
    login_timeout_seconds: float = 60.0  # on submission, total waiting time until the login
    idle_seconds: float = 600.0  # total waiting time for commands since the last message; see `WaitingTime`
    data_timeout_seconds: float = 300.0  # between two pieces of content
    data_seconds: float = 300.0  # total waiting time for a content, which received octets extend
    data_octets_per_second: int = 500  # each so many octets extend it by a second; 0: no minimum rate
    max_data_seconds: float = 3600.0  # for a whole content at any rate
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")  # on submission
    authentication: AuthenticationPolicy = AuthenticationPolicy.REQUIRED
    evidence: frozenset[str] = frozenset()  # results for which RCPT waits: of "spf", "helo" and "reverse-dns"

    def of_listener(self, role: Role, authentication: AuthenticationPolicy) -> SessionSettings:
        """These settings for a listener of `role`.

        The errors of a trusted server are not counted: they are those of its users, and do not end its session.
        """
        most = self.max_recipients if role is Role.SUBMISSION else min(self.max_recipients, MAX_ACCEPTED_RECIPIENTS)
        errors = sys.maxsize if role is Role.LMTP else self.max_errors
        return dataclasses.replace(
            self, role=role, authentication=authentication, max_recipients=most, max_errors=errors
        )
