"""CPU of the checks of one message, with a DNS that answers from memory, and of signing and sealing. Prints JSON.

python -m tests.bench.bench_authentication [--rounds N] [--oracle]

Each message has an rsa-2048 and an ed25519 signature. `all_checks` are SPF, DKIM, ARC (no chain) and DMARC. `--oracle`
adds the cost of dkimpy to verify and to sign with RSA.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from restante_mail.authentication.arc.seal import seal
from restante_mail.authentication.arc.validate import ArcValidator
from restante_mail.authentication.dkim.content import Content, HeaderFields
from restante_mail.authentication.dkim.sign import sign
from restante_mail.authentication.dkim.signing_keys import generate_key, public_record
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.dmarc.author import Author, author
from restante_mail.authentication.dmarc.evaluation import dmarc
from restante_mail.authentication.dns import Address
from restante_mail.authentication.results import Result
from restante_mail.authentication.spf.evaluation import Client, check_helo, check_mail_from

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
PIECE = 16_384  # octets that come together
RSA, ED25519 = (generate_key("example.org", name, f"{name}-sha256") for name in ("rsa", "ed25519"))
CLIENT = Client(ip_address("192.0.2.1"), "mx1.example.org", "mx.example.test", NOW)
RESULTS = "mx.example.test; spf=pass smtp.mailfrom=bob@example.org; dkim=pass header.d=example.org; dmarc=pass"

HEADER = b"".join(
    b"Received: from mx%d.example.org (mx%d.example.org [192.0.2.1])\r\n\tby mx.example.test with ESMTPS id abc;\r\n"
    b"\tMon, 30 Nov 2026 12:00:00 +0000\r\n" % (number, number)
    for number in range(4)
) + (
    b'From: "Bob Example" <bob@example.org>\r\nTo: Alice <alice@example.test>, carol@example.test\r\n'
    b"Subject: Hello there\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <abc@example.org>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)


class Memory:
    """A DNS with the records of example.org."""

    def __init__(self) -> None:
        self._records = {
            "example.org": b"v=spf1 ip4:198.51.100.0/24 include:_spf.example.org -all",
            "_spf.example.org": b"v=spf1 ip4:192.0.2.0/24 -all",
            "_dmarc.example.org": b"v=DMARC1; p=reject; rua=mailto:reports@example.org",
            **{f"{key.selector}._domainkey.example.org": public_record(key).encode() for key in (RSA, ED25519)},
        }

    async def txt(self, name: str) -> Sequence[bytes]:
        found = self._records.get(name.rstrip("."))
        return (found,) if found is not None else ()

    async def addresses(self, name: str, version: int) -> Sequence[Address]:
        return ()

    async def mail_servers(self, name: str) -> Sequence[str]:
        return ()

    async def names(self, address: Address) -> Sequence[str]:
        return ()

    async def exists(self, name: str) -> bool:
        return name.rstrip(".") in self._records


DNS = Memory()


def text(octets: int) -> bytes:
    """A body of words, with double spaces and spaces at line ends."""
    words = random.Random(1)
    out, size = list[str](), 0
    while size < octets:
        out.append(
            words.choice(["hello ", "the ", "wait  ", "of ", "message.\r\n", "and ", "content ", "delivery \r\n"])
        )
        size += len(out[-1])
    return "".join(out).encode()


def encoded(octets: int) -> bytes:
    """A base64 body."""
    return base64.encodebytes(random.Random(1).randbytes(octets * 3 // 4)).replace(b"\n", b"\r\n")


def fed(content: Content, octets: bytes) -> None:
    for at in range(0, len(octets), PIECE):
        content.feed(octets[at : at + PIECE])
    content.finish()


async def verified(octets: bytes) -> None:
    content = Content()
    verifier = Verifier(content)
    fed(content, octets)
    assert [each.result for each in await verifier.results(DNS, NOW)] == [Result.PASS] * 2


async def all_checks(octets: bytes) -> None:
    content, authors = Content(), list[Author]()

    def header_came(header: HeaderFields) -> None:
        authors.append(author(b"".join(field.octets for field in header.named(b"from"))))

    verifier, validator = Verifier(content), ArcValidator(content)
    content.on_header(header_came)
    fed(content, octets)
    spf = (await check_helo(CLIENT, DNS), await check_mail_from(CLIENT, "bob", "example.org", DNS))
    dkim = await verifier.results(DNS, NOW)
    result = await dmarc(authors[0], spf, dkim, DNS)
    assert result.result is Result.PASS and (await validator.result(DNS, NOW)).result is Result.NONE


async def validated(octets: bytes) -> None:
    content = Content()
    validator = ArcValidator(content)
    fed(content, octets)
    assert (await validator.result(DNS, NOW)).result is Result.PASS


def milliseconds(work: Callable[[], Awaitable[None]], rounds: int) -> float:
    """CPU of one call, the best of five runs of `rounds`."""

    async def run() -> None:
        for _ in range(rounds):
            await work()

    best = float("inf")
    for _ in range(5):
        before = time.process_time()
        asyncio.run(run())
        best = min(best, time.process_time() - before)
    return round(best / rounds * 1_000, 3)


def figures_of(body: bytes, rounds: int) -> dict[str, float]:
    """The CPU milliseconds of each kind of work on one message."""
    message = HEADER + body
    signed = sign(message, [RSA, ED25519], NOW) + message
    chain = signed
    for number in range(3):
        chain = seal(chain, RSA, NOW, Result.PASS if number else Result.NONE, RESULTS) + chain

    async def signs() -> None:
        sign(message, [RSA, ED25519], NOW)

    async def seals() -> None:
        seal(message, RSA, NOW, Result.NONE, RESULTS)

    return {
        "octets": len(message),
        "verify": milliseconds(lambda: verified(signed), rounds),
        "all_checks": milliseconds(lambda: all_checks(signed), rounds),
        "arc_chain_of_3": milliseconds(lambda: validated(chain), rounds),
        "sign_rsa_and_ed25519": milliseconds(signs, rounds),
        "seal_rsa": milliseconds(seals, rounds),
    }


def oracle_of(body: bytes) -> dict[str, float]:
    """What dkimpy takes for the RSA signature alone."""
    import dkim
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    message = HEADER + body
    pem = RSA.private_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    signed = sign(message, [RSA], NOW) + message
    record = public_record(RSA).encode()

    async def verifies() -> None:
        assert dkim.verify(signed, dnsfunc=lambda name, timeout=5: record)

    async def signs() -> None:
        dkim.sign(message, b"rsa", b"example.org", pem)

    return {"verify_rsa": milliseconds(verifies, 5), "sign_rsa": milliseconds(signs, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--oracle", action="store_true", help="dkimpy, too")
    arguments = parser.parse_args()
    sizes = {"2k": 2_000, "20k": 20_000, "200k": 200_000}
    figures: dict[str, object] = {}
    for name, octets in sizes.items():
        for kind, body in (("text", text(octets)), ("base64", encoded(octets))):
            figures[f"{kind}_{name}"] = figures_of(body, arguments.rounds)
    if arguments.oracle:
        figures["dkimpy_text_20k"] = oracle_of(text(20_000))
    json.dump({"bench": "authentication", "unit": "CPU milliseconds", "figures": figures}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
