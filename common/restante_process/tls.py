"""Server certificates: one pair for each host name, selected by SNI, reloaded when the files change."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509

from restante_process.certificates import Expiry, names

log = structlog.get_logger("tls")


class CertificateError(Exception):
    """A pair that cannot be used: unreadable, not PEM, with an encrypted key or with another certificate's key."""


@dataclass(frozen=True)
class CertificateFiles:
    """A PEM certificate chain, leaf first, and its unencrypted PEM key."""

    certificate: Path
    key: Path
    hosts: tuple[str, ...] = ()  # names to use it for; none: the names in the certificate


@dataclass(frozen=True)
class _Pair:
    context: ssl.SSLContext
    names: tuple[str, ...]  # lower case; `*.example.test` matches one more label
    not_after: datetime


class Certificates:
    """The pairs of one process. A client that sends no name, or an unknown one, gets the first pair.

    Raises CertificateError when a pair cannot be used at the start. Later a bad pair does not replace the old one.
    """

    def __init__(
        self, files: Sequence[CertificateFiles], *, client_ca: Path | None = None, protocols: Sequence[str] = ()
    ) -> None:
        """`client_ca`: PEM file of the authorities for required client certificates. `protocols`: for ALPN."""
        if not files:
            raise CertificateError("no certificate is configured")
        self._files = tuple(files)
        self._client_ca, self._protocols = client_ca, tuple(protocols)
        self._stamps = [self._stamp(pair) for pair in self._files]
        self._pairs = [self._load(pair) for pair in self._files]
        self._publish()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next handshake; read this property for each handshake."""
        return self._pairs[0].context

    def _publish(self) -> None:
        by_name: dict[str, ssl.SSLContext] = {}
        for pair in self._pairs:
            for name in pair.names:
                by_name.setdefault(name, pair.context)

        def choose(tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if name is not None:
                wanted = name.lower().rstrip(".")
                found = by_name.get(wanted) or by_name.get("*." + wanted.partition(".")[2])
                if found is not None:
                    tls.context = found

        for pair in self._pairs:
            pair.context.sni_callback = choose

    def replace(self, files: Sequence[CertificateFiles]) -> bool:
        """Read these pairs, and return whether every one was good.

        New file names replace the old pairs all together or not at all. With the same names each good pair is replaced.
        """
        if tuple(files) == self._files:
            return self.reload(force=True)
        try:
            if not files:
                raise CertificateError("no certificate is configured")
            stamps, pairs = [self._stamp(pair) for pair in files], [self._load(pair) for pair in files]
        except CertificateError as error:
            log.error("certificates not replaced", reason=str(error))
            return False
        self._files, self._stamps, self._pairs = tuple(files), stamps, pairs
        self._publish()
        log.info("certificates loaded", certificates=[str(pair.certificate) for pair in files])
        return True

    def reload(self, *, force: bool = False) -> bool:
        """Read the pairs whose files have changed, or with `force` all; return whether every pair read was good.

        Logs a bad pair and keeps the old one; the next change of its files starts another attempt.
        """
        good = True
        for index, files in enumerate(self._files):
            stamp = self._stamp(files)
            if stamp == self._stamps[index] and not force:
                continue
            self._stamps[index] = stamp
            try:
                self._pairs[index] = self._load(files)
            except CertificateError as error:
                good = False
                log.error("certificate not replaced", certificate=str(files.certificate), reason=str(error))
            else:
                log.info("certificate loaded", certificate=str(files.certificate), names=self._pairs[index].names)
        self._publish()
        return good

    def _stamp(self, files: CertificateFiles) -> tuple[object, ...]:
        paths = (files.certificate, files.key, *([self._client_ca] if self._client_ca else ()))
        return tuple(map(_file_stamp, paths))

    def _load(self, files: CertificateFiles) -> _Pair:
        pair = _load(files)
        if self._protocols:
            pair.context.set_alpn_protocols(list(self._protocols))
        if self._client_ca is not None:
            pair.context.verify_mode = ssl.CERT_REQUIRED
            try:
                pair.context.load_verify_locations(self._client_ca)
            except OSError as error:  # ssl.SSLError is one
                raise CertificateError(f"{self._client_ca}: {_reason(error)}") from None
        return pair

    def expiries(self) -> list[Expiry]:
        """The expiry of each certificate in use."""
        return [
            Expiry(pair.names[0] if pair.names else str(files.certificate), pair.not_after)
            for files, pair in zip(self._files, self._pairs, strict=True)
        ]

    def warn_of_expiry(self, now: datetime) -> None:
        """Log a warning for every certificate that has expired or will expire soon."""
        for each in self.expiries():
            if warning := each.warning(now):
                log.warning(warning, name=each.name)

    async def watch(self, *, every_seconds: float = 30.0, after_check: Callable[[], None] = lambda: None) -> None:
        """Check for changed files until cancelled, and warn of expiry once a day; `after_check` updates metrics."""
        warned_on = None
        while True:
            now = datetime.now(UTC)
            if now.date() != warned_on:
                warned_on = now.date()
                self.warn_of_expiry(now)
            after_check()
            await asyncio.sleep(every_seconds)
            self.reload()


def _file_stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino


def _reason(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return reason or "the file cannot be read"


def _no_password() -> str:
    raise CertificateError(
        "the private key is encrypted; store it without a passphrase"
    )  # otherwise OpenSSL would prompt on the terminal


def _load(files: CertificateFiles) -> _Pair:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996, RFC 9325 3.1.1
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        leaf = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(f"{files.certificate}: {_reason(error)}") from None
    except ValueError as error:
        raise CertificateError(f"{files.certificate}: {error}") from None
    hosts = tuple(host.lower() for host in files.hosts) or names(leaf)
    return _Pair(context, hosts, leaf.not_valid_after_utc)
