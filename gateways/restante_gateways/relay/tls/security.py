"""TLS contexts of the relay, and the judgement of a session."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from restante_gateways.relay.peer import HandshakeFailed, Line
from restante_gateways.relay.tls.chains import Chain, ChainRefused, Chains
from restante_gateways.relay.tls.rules import Demand, TlsRule, TlsUnusable
from restante_gateways.relay.tls.sessions import Sessions
from restante_mail.authentication.dane import DANE_EE, DANE_TA
from restante_mail.authentication.tls_result import TlsResult

# Codes of OpenSSL's X509_verify_cert (X509_V_ERR_...), as ssl.SSLCertVerificationError.verify_code has them.
VERIFY_RESULTS = {
    9: TlsResult.CERTIFICATE_EXPIRED,  # not yet valid
    10: TlsResult.CERTIFICATE_EXPIRED,
    18: TlsResult.CERTIFICATE_NOT_TRUSTED,  # self-signed
    19: TlsResult.CERTIFICATE_NOT_TRUSTED,  # self-signed in the chain
    20: TlsResult.CERTIFICATE_NOT_TRUSTED,  # no local issuer
    21: TlsResult.CERTIFICATE_NOT_TRUSTED,  # no issuer for the first
    23: TlsResult.CERTIFICATE_NOT_TRUSTED,  # revoked
    62: TlsResult.CERTIFICATE_HOST_MISMATCH,
    64: TlsResult.CERTIFICATE_HOST_MISMATCH,  # an IP address
}


class Security:
    """Contexts, certificate chains and counts that all connections of the relay share."""

    def __init__(self, sessions: Sessions | None = None, authorities: str = "") -> None:
        """`authorities` is a PEM file with the trusted authorities; empty: those of the system.

        Raises OSError (ssl.SSLError is one) if the file cannot be used.
        """
        self.sessions = sessions or Sessions()
        self.chains = Chains()
        self.verified = verified_context(authorities)
        self._unverified = unverified_context()

    def context(self, demand: Demand) -> ssl.SSLContext:
        """The context for a demand. That of DANE accepts any certificate, which `judge` judges."""
        return self.verified if demand is Demand.WEBPKI else self._unverified

    async def judge(
        self, line: Line, rule: TlsRule, demand: Demand, name: str, fetch_chain: Callable[[], Awaitable[Chain]]
    ) -> None:
        """Judge the certificate of an encrypted connection, as far as its context has not (RFC 7672 3.1).

        `fetch_chain` makes a second connection for the whole chain. Raises TlsUnusable and the errors of `fetch_chain`.
        """
        if demand is not Demand.DANE:
            return
        certificate = line.certificate
        if any(record.usage == DANE_EE and record.names(certificate) for record in rule.records):
            return  # RFC 7672 3.1.1: neither names nor dates matter
        if not any(record.usage == DANE_TA for record in rule.records):
            raise TlsUnusable(TlsResult.VALIDATION_FAILURE, "no TLSA record names the certificate of the server")
        try:
            await self.chains.verify(certificate, rule.records, [name, *rule.other_names], fetch_chain)
        except ChainRefused as refused:
            raise TlsUnusable(
                VERIFY_RESULTS.get(refused.verify_code, TlsResult.VALIDATION_FAILURE), str(refused)
            ) from None


def failure(failed: HandshakeFailed) -> TlsUnusable:
    """The failure of a handshake."""
    result = VERIFY_RESULTS.get(failed.verify_code, TlsResult.VALIDATION_FAILURE)
    return TlsUnusable(result, f"TLS: {failed}")


def verified_context(authorities: str = "") -> ssl.SSLContext:
    """The context that accepts only a valid certificate for the name. Raises OSError."""
    context = ssl.create_default_context(cafile=authorities or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8461 4.2, RFC 8996
    return context


def unverified_context() -> ssl.SSLContext:
    """The context of opportunistic TLS, which only prevents eavesdropping: it accepts any certificate (RFC 7435)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
