"""A DNS with TXT records, and keys that sign in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from restante_mail.authentication.dkim.signing_keys import SigningKey, generate_key, public_record
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.results import DkimResult
from tests.harness.memory_dns import MemoryDns, memory_dns

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def txt_records(records: Mapping[str, str | Sequence[str] | None]) -> MemoryDns:
    """A DNS with these TXT records by name. None as a record is a failure of the DNS."""
    there = {name: {"TXT": found} for name, found in records.items() if found is not None}
    return memory_dns(there, [name for name, found in records.items() if found is None])


@cache
def key(algorithm: str = "rsa-sha256", domain: str = "example.org", selector: str = "") -> SigningKey:
    """A key, made once for a run of tests; its selector is the first letter of the algorithm."""
    return generate_key(domain, selector or algorithm[0], algorithm)


def pem(signing: SigningKey) -> bytes:
    """The private key as other programs read it."""
    return signing.private_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def published(*keys: SigningKey, **changes: str) -> MemoryDns:
    """A DNS with the records of these keys; `changes` are added tags, such as t="y"."""
    tags = "".join(f"; {name}={value}" for name, value in changes.items())
    return txt_records({f"{each.selector}._domainkey.{each.domain}": public_record(each) + tags for each in keys})


def verified(content: bytes, dns: MemoryDns, now: datetime = NOW, piece: int = 0) -> tuple[DkimResult, ...]:
    """The results of a message, fed in pieces of so many octets (0: whole)."""
    verifier = Verifier()
    for at in range(0, len(content), piece or max(1, len(content))):
        verifier.feed(content[at : at + piece] if piece else content)
    verifier.finish()
    return asyncio.run(verifier.results(dns, now))
