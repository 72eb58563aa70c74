"""The demands of a policy on the TLS session with one server. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from restante_mail.authentication.dane import TlsaRecord
from restante_mail.authentication.tls_result import TlsPolicy, TlsResult


class Demand(Enum):
    """A demand on a session."""

    DANE = "dane"  # TLS, with a certificate that the TLSA records name (RFC 7672 3)
    WEBPKI = "webpki"  # TLS, with a valid certificate for the server's name (RFC 8461 4.2)
    ANY_CERTIFICATE = "any certificate"  # TLS
    CLEAR = "clear"  # no TLS


@dataclass(frozen=True, slots=True)
class TlsRule:
    """The demands on a server, which are tried from the first one on. The mail waits if none is met.

    Rules are equal if they admit the same sessions, so that a connection can be used again under an equal rule.
    """

    demands: tuple[Demand, ...] = (Demand.ANY_CERTIFICATE, Demand.CLEAR)  # opportunistic TLS (RFC 7435)
    name: str = ""  # the name in SNI, which a certificate must have; empty: the name of the server
    other_names: tuple[str, ...] = ()  # further names that a certificate of DANE-TA may have (RFC 7672 3.2.3)
    records: tuple[TlsaRecord, ...] = ()  # for DANE, not empty
    policy: TlsPolicy | None = field(default=None, compare=False)  # under which sessions are counted; None: uncounted

    @property
    def required(self) -> bool:
        """Whether mail may pass only over TLS."""
        return Demand.CLEAR not in self.demands


OPPORTUNISTIC = TlsRule()


class Fault(Exception):
    """A failure as TLS reports name it (RFC 8460 4.3)."""

    def __init__(self, result: TlsResult, reason: str) -> None:
        super().__init__(reason)
        self.result, self.reason = result, reason


class TlsUnusable(Fault):
    """A session does not meet a demand."""

    def __init__(self, result: TlsResult, reason: str, status: str = "4.7.5") -> None:
        """`status` is the enhanced status code of the deferral (RFC 3463 3.8)."""
        super().__init__(result, reason)
        self.status = status
