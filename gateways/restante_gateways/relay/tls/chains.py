"""The certificate chains of servers, and their verification with an anchor that TLSA records name (RFC 7672 3.1.2).

Python's ssl gives a program the chain of a connection only from 3.13 on. Until then a second connection fetches it by
pyOpenSSL, and it is remembered under the certificate of the server. A chain needs no proof of its origin: each
verification begins at the certificate whose key the server has proven on the connection itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from cryptography import x509
from OpenSSL import SSL, crypto

from restante_mail.authentication.dane import CERTIFICATE, DANE_TA, EXACT, TlsaRecord
from restante_process.certificates import names

MAX_CHAIN = 20  # certificates of a chain
MAX_REMEMBERED = 1_000  # chains
BIO_OCTETS = 16 << 10

Chain = tuple[bytes, ...]
"""Certificates in DER, the server's own first."""


class ChainRefused(Exception):
    """A chain does not lead to an anchor. `verify_code` is OpenSSL's code (X509_V_ERR_...), 0 for a wrong name."""

    def __init__(self, reason: str, verify_code: int = 0) -> None:
        super().__init__(reason)
        self.verify_code = verify_code


class Chains:
    """The chains that were fetched, by the server's certificate."""

    def __init__(self) -> None:
        self._known: dict[bytes, Chain] = {}

    async def verify(
        self,
        certificate: bytes,
        records: Sequence[TlsaRecord],
        accepted_names: Sequence[str],
        fetch: Callable[[], Awaitable[Chain]],
    ) -> None:
        """Verify the certificate of a server with the DANE-TA records. Raises ChainRefused, and what `fetch` raises."""
        key = hashlib.sha256(certificate).digest()
        known = self._known.get(key)
        if known is not None:
            try:
                verify(known, records, accepted_names)
            except ChainRefused:
                del self._known[key]  # the server may present another chain by now
            else:
                return
        chain = await fetch()
        if chain[:1] != (certificate,):
            raise ChainRefused("the server presents different certificates")
        verify(chain, records, accepted_names)
        self._known[key] = chain
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]


def verify(chain: Chain, records: Sequence[TlsaRecord], accepted_names: Sequence[str]) -> None:
    """Verify that a chain leads to a certificate that a DANE-TA record names, and that its names are accepted.

    Raises ChainRefused.
    """
    own, *above = chain[:MAX_CHAIN]
    anchoring = [record for record in records if record.usage == DANE_TA]
    anchors = [each for each in above if any(record.names(each) for record in anchoring)]
    anchors += [
        record.data for record in anchoring if (record.selector, record.matching) == (CERTIFICATE, EXACT)
    ]  # which the server need not present
    try:
        _verify(own, above, [anchor for anchor in anchors if anchor != own])
        presented = names(x509.load_der_x509_certificate(own))
    except (ValueError, crypto.Error, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ChainRefused("a certificate of the chain cannot be read") from None
    if not any(_names(presented, name.lower().rstrip(".")) for name in accepted_names):
        raise ChainRefused(f"the certificate is not for {accepted_names[0]}", verify_code=62)


def _verify(own: bytes, above: Sequence[bytes], anchors: Sequence[bytes]) -> None:
    """Raises ChainRefused, ValueError, crypto.Error."""
    if not anchors:
        raise ChainRefused("no TLSA record names a certificate of the chain")
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an anchor need not be self-signed: RFC 7671 5.2
    for anchor in anchors:
        store.add_cert(_loaded(anchor))
    try:
        crypto.X509StoreContext(store, _loaded(own), [_loaded(each) for each in above]).verify_certificate()
    except crypto.X509StoreContextError as error:
        raise ChainRefused(f"certificate refused: {error}", cast(int, error.errors[0])) from None


def _loaded(certificate: bytes) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, certificate)


def _names(presented: Sequence[str], name: str) -> bool:
    """Whether a certificate's names include a host name (RFC 7672 3.2.3); "*" stands for the whole first label."""
    return name in presented or "*." + name.partition(".")[2] in presented


class _Handshake(asyncio.Protocol):
    """A TLS handshake as a client, by pyOpenSSL, for the chain of the server."""

    def __init__(self, transport: asyncio.Transport, name: str) -> None:
        self._transport = transport
        self._tls = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        self._tls.set_connect_state()
        if name:
            self._tls.set_tlsext_host_name(name.encode("ascii"))
        self.chain: asyncio.Future[Chain] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """Send the first octets."""
        self._advance()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self.chain.done():
            self._tls.bio_write(data)
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if not self.chain.done():
            self.chain.set_exception(ChainRefused("the server closed the connection during a handshake"))

    def _advance(self) -> None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush()
        except SSL.Error:
            self.chain.set_exception(ChainRefused("a handshake failed"))
        else:
            found = self._tls.get_peer_cert_chain() or []
            self.chain.set_result(tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in found))

    def _flush(self) -> None:
        try:
            while octets := self._tls.bio_read(BIO_OCTETS):
                self._transport.write(octets)
        except SSL.WantReadError:
            return  # everything is sent


async def presented(transport: asyncio.Transport, name: str, seconds: float) -> Chain:
    """The chain that a server presents on a connection on which it waits for a handshake. Closes the connection.

    Raises ChainRefused.
    """
    handshake = _Handshake(transport, name)
    try:
        transport.set_protocol(handshake)
        handshake.begin()
        async with asyncio.timeout(seconds):
            return await handshake.chain
    except TimeoutError:
        raise ChainRefused("a handshake took too long") from None
    finally:
        transport.abort()
