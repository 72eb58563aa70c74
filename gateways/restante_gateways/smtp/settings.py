"""Bounds and offers of the sessions of one SMTP listener."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from restante_gateways.net.authentication import AuthenticationPolicy


class Role(enum.Enum):
    """The purpose of a listener (RFC 5598)."""

    MX = "mx"  # takes mail for our own recipients from other MTAs
    SUBMISSION = "submission"  # takes mail from our own users, who must authenticate


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Bounds and offers of one listener; every bound is answered with SMTP's own error."""

    role: Role
    host_name: str
    max_message_octets: int = 50 << 20  # offered as SIZE
    max_content_line_octets: int = 1 << 20  # nothing here holds a line, so real mail's long ones may pass
    max_recipients: int = 1000  # of one message; RFC 5321 4.5.3.1.8 asks for at least 100
    max_command_octets: int = 4096  # but for AUTH, which has RFC 4954's 12,288
    max_errors: int = 20  # permanent errors since the last accepted message, then 421
    max_idle_commands: int = 100  # commands that bring no mail (NOOP, RSET, VRFY, ...) since the last, then 421
    max_login_attempts: int = 3
    max_hops: int = 100  # Received fields, RFC 5321 6.3
    command_timeout_seconds: float = 300.0  # RFC 5321 4.5.3.2.7
    login_timeout_seconds: float = 60.0  # on submission, all together, until the user is known
    idle_seconds: float = 600.0  # waiting for commands, all together, since the last message; see `WaitingTime`
    data_timeout_seconds: float = 300.0  # between two pieces of content
    data_seconds: float = 300.0  # waiting for a content, all together, and a second more for each
    data_octets_per_second: int = 500  # octets of it that have come; 0: there is no least rate
    max_data_seconds: float = 3600.0  # for a whole content, however fast it comes
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")  # on submission
    authentication: AuthenticationPolicy = AuthenticationPolicy.REQUIRED
