"""The expiry of certificates, and the warnings about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

WARNING_DAYS = 14.0


@dataclass(frozen=True, slots=True)
class Expiry:
    """The expiry of one certificate, with its first name, or its file when it has no name."""

    name: str
    not_after: datetime

    def days_left(self, now: datetime) -> float:
        """Days until it expires, negative afterwards."""
        return (self.not_after - now).total_seconds() / 86_400

    def warning(self, now: datetime) -> str:
        """The warning for the operator; empty while more than 14 days are left."""
        days = self.days_left(now)
        date = f"{self.not_after:%Y-%m-%d %H:%M} UTC"
        if days < 0:
            return f"the certificate of {self.name} expired on {date}, so clients refuse it; renew it"
        if days < WARNING_DAYS:
            return f"the certificate of {self.name} expires on {date}, in {days:.1f} days; renew it"
        return ""


def names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The host names of a certificate, in lower case."""
    try:
        subject = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in subject.get_values_for_type(x509.DNSName))


def expiry(path: Path) -> Expiry:
    """The expiry of the first certificate in a PEM file. Raises OSError, and ValueError when there is none."""
    leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    return Expiry(next(iter(names(leaf)), str(path)), leaf.not_valid_after_utc)
