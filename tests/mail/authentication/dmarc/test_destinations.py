"""The addresses of DMARC reports: consent of other organizations (RFC 9990 4, RFC 9991 5), and hostile URIs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dmarc.destinations import failure_addresses, report_addresses
from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.authentication.dns import DnsFailure
from tests.harness.memory_dns import memory_dns

CONSENT = "example.com._report._dmarc.example.net"
RECORDS: dict[str, dict[str, str | bytes | Sequence[str | bytes]]] = {
    "_dmarc.example.com": {"TXT": "v=DMARC1; p=none"},
    CONSENT: {"TXT": "v=DMARC1"},
    "example.com._report._dmarc.mail.example.org": {"TXT": ["other", "v=DMARC1; rua=mailto:new@mail.example.org"]},
    "example.com._report._dmarc.example.edu": {"TXT": "v=DMARC1; rua=mailto:victim@example.test"},
    "example.com._report._dmarc.example.biz": {
        "TXT": ["v=DMARC1; rua=mailto:a@example.biz", "v=DMARC1; rua=mailto:victim@example.test"]
    },
    "example.com._report._dmarc.example.int": {"TXT": "v=DMARC1; rua=https://example.int/reports"},
    "example.com._report._dmarc.example.info": {"TXT": "DMARC1"},
    "example.com._report._dmarc.both.example": {
        "TXT": "v=DMARC1; rua=mailto:a@both.example; ruf=mailto:f@both.example"
    },
}


@pytest.mark.parametrize(
    ("uris", "addresses"),
    [
        ("mailto:a@example.com", ("a@example.com",)),
        ("mailto:a@mail.example.com,mailto:b@example.com", ("a@mail.example.com", "b@example.com")),
        ("MAILTO:a%40b@example.com?subject=x", ()),  # two at signs
        ("mailto:a%2Bb@example.com?subject=x!10m", ("a+b@example.com",)),
        ("https://example.com/report", ()),
        ("mailto:a@example.com,mailto:a@example.com", ("a@example.com",)),
        ("mailto:a@example.net", ("a@example.net",)),  # with consent
        ("mailto:a@example.info", ()),  # no record of the right form
        ("mailto:a@victim.example", ()),
        ("mailto:old@mail.example.org", ("new@mail.example.org",)),
        ("mailto:a@example.edu", ()),  # the consent names another host
        ("mailto:a@example.biz", ()),  # one of two consents does
        ("mailto:a@example.int", ()),  # the consent wants reports in another way
        ("mailto:a@[192.0.2.1]", ()),
        ("mailto:a@" + "x" * 63 + "." + "y" * 63 + "." + "z" * 63 + "." + "w" * 50, ()),
    ],
)
async def test_only_willing_addresses_get_reports(uris: str, addresses: tuple[str, ...]) -> None:
    record = parse_record(f"v=DMARC1; p=none; rua={uris}".encode())
    assert await report_addresses(record, "example.com", memory_dns(RECORDS)) == addresses


@pytest.mark.parametrize(
    ("uris", "addresses"),
    [
        ("mailto:f@example.com,mailto:g@mail.example.com", ("f@example.com", "g@mail.example.com")),
        ("mailto:f@example.net", ("f@example.net",)),  # with consent
        ("mailto:f@victim.example", ()),
        ("mailto:old@both.example", ("f@both.example",)),  # ruf= of the consent, not rua=
        ("mailto:f@mail.example.org", ("f@mail.example.org",)),  # the consent has no ruf=
    ],
)
async def test_failure_reports_need_the_same_consent(uris: str, addresses: tuple[str, ...]) -> None:
    record = parse_record(f"v=DMARC1; p=none; rua=mailto:a@example.com; ruf={uris}".encode())
    assert await failure_addresses(record, "example.com", memory_dns(RECORDS)) == addresses


async def test_a_failing_dns_is_told() -> None:
    record = parse_record(b"v=DMARC1; p=none; rua=mailto:a@example.net")
    with pytest.raises(DnsFailure):
        await report_addresses(record, "example.com", memory_dns(RECORDS, [CONSENT]))


async def test_the_number_of_addresses_and_questions_is_bounded() -> None:
    uris = ",".join(f"mailto:a@{number}.example.net" for number in range(1_000))
    dns = memory_dns(RECORDS)
    assert await report_addresses(parse_record(f"v=DMARC1; rua={uris}".encode()), "example.com", dns) == ()
    assert len(dns.asked) < 100
    uris = ",".join(f"mailto:a{number}@example.com" for number in range(1_000))
    found = await report_addresses(parse_record(f"v=DMARC1; rua={uris}".encode()), "example.com", dns)
    assert found == tuple(f"a{number}@example.com" for number in range(10))


@given(st.binary(max_size=200))
def test_any_record_has_an_answer(octets: bytes) -> None:
    record = parse_record(b"v=DMARC1; p=none; rua=mailto:" + octets)
    asyncio.run(report_addresses(record, "example.com", memory_dns(RECORDS)))
