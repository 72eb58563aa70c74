"""Policy records: the examples of RFC 9989 appendix B, and records with errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dmarc.record import MAX_URIS, Record, parse_record, select_record
from restante_mail.authentication.results import Policy

FEEDBACK = "mailto:dmarc-feedback@example.com"


def record(text: str) -> Record:
    octets = text.encode()
    assert select_record([octets]) == octets
    return parse_record(octets)


def test_the_examples_of_appendix_b() -> None:
    monitoring = record(f"v=DMARC1; p=none; rua={FEEDBACK}; ruf=mailto:auth-reports@thirdparty.example.net")
    assert (monitoring.policy, monitoring.testing) == (Policy.NONE, False)
    assert monitoring.aggregate_uris == (FEEDBACK,)
    assert monitoring.failure_uris == ("mailto:auth-reports@thirdparty.example.net",)
    testing = record(f"v=DMARC1; p=quarantine; rua={FEEDBACK},mailto:tld-test@thirdparty.example.net; t=y")
    assert (testing.policy, testing.testing) == (Policy.QUARANTINE, True)
    assert testing.aggregate_uris == (FEEDBACK, "mailto:tld-test@thirdparty.example.net")
    assert record("v=DMARC1;").problem == ""


def test_all_tags_are_read() -> None:
    found = record("V = DMARC1 ;P=Reject; sp=quarantine;np=none; ADKIM=s ; aspf=S;psd=n;t=Y;fo=d:s;x=1;;")
    assert (found.policy, found.subdomain_policy, found.nonexistent_policy) == (
        Policy.REJECT,
        Policy.QUARANTINE,
        Policy.NONE,
    )
    assert (found.strict_dkim, found.strict_spf, found.psd, found.testing) == (True, True, "n", True)
    assert found.failure_options == {"d", "s"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; pct=10; rf=afrf; ri=60; p=reject", Policy.REJECT),
        ("v=DMARC1; adkim=x; aspf; psd=z; t=maybe; fo=9; p=reject", Policy.REJECT),
        ("v=DMARC1; p=reject; p=none", Policy.REJECT),
        (f"v=DMARC1; p=refuse; rua={FEEDBACK}", Policy.NONE),
        (f"v=DMARC1; p=reject; sp=x; rua={FEEDBACK}", Policy.NONE),
        ("v=DMARC1; sp=reject", Policy.NONE),
    ],
)
def test_errors_give_defaults(text: str, expected: Policy) -> None:
    found = record(text)
    assert (found.policy, found.problem) == (expected, "")
    assert (found.strict_dkim, found.psd, found.testing, found.failure_options) == (False, "u", False, frozenset("0"))


@pytest.mark.parametrize("tags", ["p=refuse", "p=reject; sp=x", "p=reject; np=", "p=x; rua=dmarc@example.com"])
def test_an_invalid_policy_without_an_address_for_reports_is_no_policy(tags: str) -> None:
    assert "is no policy" in record(f"v=DMARC1; {tags}").problem


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"v=DMARC2; p=none",
        b"v=dmarc1; p=none",
        b"p=none; v=DMARC1",
        b"v=DMARC1p=none",
        b" v=DMARC1",
        b"v=DMARC1 p=none",
    ],
)
def test_another_version_is_no_record(text: bytes) -> None:
    assert select_record([text]) is None


def test_several_records_are_discarded() -> None:
    assert select_record([b"v=DMARC1; p=none", b"text", b"v=DMARC1; p=none"]) is None
    assert select_record([b"v=DMARC1", b"text"]) == b"v=DMARC1"


@pytest.mark.parametrize(
    ("value", "uris"),
    [
        ("mailto:a@b.example!10m, https://r.example/x", ("mailto:a@b.example", "https://r.example/x")),
        ("a@b.example,,mailto:,mailto:x,:y", ()),
        (
            ",".join(f"mailto:{number}@b.example" for number in range(50)),
            tuple(f"mailto:{number}@b.example" for number in range(MAX_URIS)),
        ),
    ],
)
def test_addresses_for_reports(value: str, uris: tuple[str, ...]) -> None:
    assert record(f"v=DMARC1; p=none; rua={value}").aggregate_uris == uris


@given(
    st.lists(
        st.sampled_from(["p", "=", ";", "reject", "rua", "mailto:a@b", " ", "sp", "t", "y", "\u00e4", "psd", "!"]),
        max_size=30,
    )
)
def test_any_record_is_read(pieces: list[str]) -> None:
    found = parse_record(b"v=DMARC1;" + "".join(pieces).encode())
    assert found.psd in {"y", "n", "u"}
    assert found.text.isascii() or "\ufffd" in found.text


def test_a_long_record_is_read_in_linear_time() -> None:
    assert parse_record(b"v=DMARC1" + b";p" * 1_000_000).policy is Policy.NONE
    assert parse_record(b"v=DMARC1;" + b" " * 1_000_000 + b";p=reject").policy is Policy.NONE
