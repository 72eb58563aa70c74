"""Certificates for tests."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from restante_process.tls import CertificateFiles

MakePair = Callable[..., CertificateFiles]


def pair_maker(folder: Path) -> MakePair:
    """A maker of self-signed certificates with their keys: `make_pair("name", "mail.example.test", days=90)`."""

    def make(stem: str, *names: str, days: float = 90.0) -> CertificateFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        now = datetime.datetime.now(datetime.UTC)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        files = CertificateFiles(folder / f"{stem}.pem", folder / f"{stem}.key")
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    return make


@dataclass(frozen=True)
class Issued:
    """A certificate with its key and its chain."""

    leaf: bytes  # in DER
    key: ec.EllipticCurvePrivateKey
    files: CertificateFiles  # with the whole chain

    def server(self) -> ssl.SSLContext:
        """The context of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.files.certificate, self.files.key)
        return context


class Authority:
    """A certificate authority: `pem` is the file that clients trust, `root` and `intermediate` are in DER."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root_key, self._key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self._root = _certificate("root", "root", self._root_key, self._root_key, authority=True)
        self._intermediate = _certificate("intermediate", "root", self._key, self._root_key, authority=True)
        self.root, self.intermediate = _der(self._root), _der(self._intermediate)
        self.pem = folder / "authority.pem"
        self.pem.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, days: float = 90.0, with_root: bool = True) -> Issued:
        """A certificate for host names, which expires in `days`. Its chain ends with the root, or before it."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(names[0], "intermediate", key, self._key, names=names, days=days)
        chain = [leaf, self._intermediate, *([self._root] if with_root else [])]
        stem = self._folder / f"{names[0]}-{leaf.serial_number:x}"
        files = CertificateFiles(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        files.certificate.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Issued(_der(leaf), key, files)


def _certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    names: Sequence[str] = (),
    days: float = 900.0,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    return builder.sign(signer, hashes.SHA256())


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
