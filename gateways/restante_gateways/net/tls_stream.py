"""TLS between two memory buffers: ciphertext in, plaintext out, and back. *Pure.*

asyncio's own TLS holds 256 KiB for each connection, its STARTTLS differs between event loops, and it does not pass on
octets that were read before. This module avoids all three.
"""

from __future__ import annotations

import ssl

from restante_gateways.net.addresses import TlsFacts

SLICE_OCTETS = 16_384  # a TLS record; memory buffers never shrink, so they get no more at once


class TlsStream:
    """The server's end of one TLS connection. `ssl.SSLError` from any method means the connection is lost."""

    __slots__ = ("_incoming", "_outgoing", "_tls", "ended", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False  # the handshake is complete
        self.ended = False  # the client has closed its direction properly

    def receive(self, data: bytes) -> bytes:
        """The plaintext that `data` completes; may be empty. Afterwards `output()` may have octets to send."""
        if len(data) <= SLICE_OCTETS:
            return self._receive_slice(data)
        view = memoryview(data)
        return b"".join(self._receive_slice(view[at : at + SLICE_OCTETS]) for at in range(0, len(view), SLICE_OCTETS))

    def _receive_slice(self, data: bytes | memoryview) -> bytes:
        self._incoming.write(data)
        if not self.established:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.established = True
        plain: list[bytes] = []
        try:
            while chunk := self._tls.read(SLICE_OCTETS):
                plain.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass  # the rest of a record has not arrived yet
        except ssl.SSLZeroReturnError:
            self.ended = True
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def send(self, data: bytes) -> bytes:
        """The ciphertext of `data`, with all other pending output."""
        if len(data) <= SLICE_OCTETS:
            self._tls.write(data)
            return self._outgoing.read()
        view, sealed = memoryview(data), []
        for at in range(0, len(view), SLICE_OCTETS):
            self._tls.write(view[at : at + SLICE_OCTETS])
            sealed.append(self._outgoing.read())
        return b"".join(sealed)

    def output(self) -> bytes:
        """Pending output of the TLS layer itself: handshake, alerts."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> bytes:
        """The closing alert (RFC 8446 6.1), by which a client distinguishes a regular end from a truncation."""
        if not self.established:
            return self.output()
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the client's closing alert has not arrived, and this does not wait for it
        return self.output()

    def facts(self) -> TlsFacts:
        """Version and cipher of the established connection."""
        cipher = self._tls.cipher()
        return TlsFacts(version=self._tls.version() or "", cipher=cipher[0] if cipher else "")
