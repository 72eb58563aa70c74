"""Authentication-Results of the checks (RFC 8601): its text, its bounds, and what other programs read in it."""

from __future__ import annotations

import re

import authres
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante_mail.authentication.authres import MAX_OCTETS, field, value
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Identity,
    Policy,
    Result,
    ReverseDnsResult,
    SpfResult,
)
from restante_mail.header.authres import authserv_id, method_results
from restante_mail.header.fields import fields, unfold

ID = "mx.example.test"


def written(checks: Checks, **given: str) -> str:
    """The value without its folds, behind the name of the server."""
    return value(ID, checks, **given).replace("\r\n", "").removeprefix(f"{ID}; ")


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        (Checks(), "none"),
        (
            Checks(spf=(SpfResult(Result.PASS, Identity.MAILFROM, "example.org", "ip4:192.0.2.0/24"),)),
            "spf=pass smtp.mailfrom=example.org",
        ),
        (
            Checks(spf=(SpfResult(Result.FAIL, Identity.HELO, "mx.example.org", "-all", "Go away"),)),
            "spf=fail reason=-all smtp.helo=mx.example.org",
        ),
        (
            Checks(
                dkim=(DkimResult(Result.PASS, "example.org", "s1", "@example.org", "rsa-sha256", 2048, "dG+/vQ=="),)
            ),
            'dkim=pass (2048-bit key) header.d=example.org header.s=s1 header.a=rsa-sha256 header.b="dG+/vQ=="',
        ),
        (
            Checks(dkim=(DkimResult(Result.PASS, "example.org", "s1", "joe@sub.example.org", partial=True),)),
            (
                'dkim=pass reason="l= leaves octets of the body unsigned" header.d=example.org'
                " header.i=joe@sub.example.org header.s=s1"
            ),
        ),
        (
            Checks(dkim=(DkimResult(Result.NEUTRAL, problem='no "d="; \\ ü\r\nX: y'),)),
            "dkim=neutral reason=\"no 'd='; / ???X: y\"",
        ),
        (
            Checks(dmarc=DmarcResult(Result.FAIL, "example.org", "example.org", "example.org", Policy.REJECT)),
            "dmarc=fail header.from=example.org policy.dmarc=reject",
        ),
        (Checks(dmarc=DmarcResult(Result.NONE, "example.org")), "dmarc=none header.from=example.org"),
        (Checks(arc=ArcResult(Result.PASS, ("a.example",))), "arc=pass header.oldest-pass=0 smtp.remote-ip=192.0.2.1"),
        (Checks(arc=ArcResult(Result.FAIL, problem="broken")), "arc=fail reason=broken"),
        (Checks(reverse_dns=ReverseDnsResult(Result.PASS, "mx.example.org")), "iprev=pass policy.iprev=192.0.2.1"),
        (
            Checks(
                dns_lists=(
                    DnsListResult("bad.example", True, ("127.0.0.2", "127.0.0.3"), 1.0),
                    DnsListResult("good.example", True, ("127.0.1.1",), -1.0),
                    DnsListResult("silent.example"),
                    DnsListResult("down.example", problem="timed out"),
                )
            ),
            (
                "x-dnsbl=fail dns.zone=bad.example policy.ip=127.0.0.2; dnswl=pass dns.zone=good.example"
                ' policy.ip=127.0.1.1; x-dnsbl=temperror reason="timed out" dns.zone=down.example'
            ),
        ),
    ],
)
def test_a_result_is_written(checks: Checks, expected: str) -> None:
    assert written(checks, client_address="192.0.2.1") == expected


def test_an_override_is_the_reason_of_a_failed_dmarc() -> None:
    failed = Checks(dmarc=DmarcResult(Result.FAIL, "example.org", "example.org", policy=Policy.REJECT))
    assert written(failed, override="local policy: x is trusted").startswith(
        'dmarc=fail reason="local policy: x is trusted" header.from='
    )


def test_an_address_of_version_6_is_quoted_and_a_client_without_address_is_left_out() -> None:
    checks = Checks(reverse_dns=ReverseDnsResult(Result.FAIL))
    assert written(checks, client_address="2001:db8::1") == 'iprev=fail policy.iprev="2001:db8::1"'
    assert written(checks) == "iprev=fail"


# RFC 5322 2.2: printable ASCII and folds; 2.1.1: lines of at most 998 characters.
_LINES = re.compile(rb"Authentication-Results: [ -~]+(?:\r\n [ -~]+)*\r\n")


def properly(made: bytes) -> None:
    assert _LINES.fullmatch(made)
    assert all(len(line) <= 998 and line.strip() for line in made.split(b"\r\n")[:-1])
    assert len(made) <= MAX_OCTETS
    (only,) = fields(made + b"\r\n")
    assert authserv_id(unfold(made[only.value_start : only.end])) == ID


HOSTILE = st.text(st.sampled_from('";()=\\\r\n\0\t ,@./ab') | st.characters(), max_size=300)


@given(HOSTILE, HOSTILE, HOSTILE)
@settings(max_examples=150)
def test_no_text_escapes_from_its_value(one: str, two: str, three: str) -> None:
    checks = Checks(
        spf=(SpfResult(Result.FAIL, Identity.HELO, one, two, three, three),),
        dkim=(DkimResult(Result.FAIL, one, two, three, one, 1024, two, problem=three),),
        dmarc=DmarcResult(Result.FAIL, one, two, three),
        arc=ArcResult(Result.FAIL, (one,), 0, (two,), three),
        dns_lists=(DnsListResult(one, True, (two,), 1.0), DnsListResult(one, problem=two)),
    )
    made = field(ID, checks, client_address=three, override=two)
    properly(made)
    found = method_results(unfold(made.split(b": ", 1)[1]))
    assert [each.method for each in found] == ["spf", "dkim", "dmarc", "arc", "x-dnsbl"] + ["x-dnsbl"] * bool(two)
    assert all(each.result != "pass" for each in found)


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\.[a-z]{2,5}", fullmatch=True)
REASONS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=200)
USUAL = st.builds(
    Checks,
    spf=st.lists(
        st.builds(SpfResult, st.sampled_from(Result), st.sampled_from(Identity), NAMES, problem=REASONS), max_size=2
    ).map(tuple),
    dkim=st.lists(
        st.builds(
            DkimResult,
            st.sampled_from(Result),
            NAMES,
            NAMES,
            NAMES.map("@{}".format) | NAMES.map("joe@{}".format),
            st.sampled_from(["rsa-sha256", "ed25519-sha256"]),
            st.sampled_from([0, 1024, 2048]),
            st.from_regex("[A-Za-z0-9+/]{8}", fullmatch=True),
            problem=REASONS,
        ),
        max_size=4,
    ).map(tuple),
    dmarc=st.none()
    | st.builds(DmarcResult, st.sampled_from(Result), NAMES, NAMES, policy=st.sampled_from(Policy), problem=REASONS),
    arc=st.none() | st.builds(ArcResult, st.sampled_from(Result), problem=REASONS),
    reverse_dns=st.none() | st.builds(ReverseDnsResult, st.sampled_from(Result), NAMES),
)


@given(USUAL)
@settings(max_examples=80)
def test_another_parser_reads_the_same_results(checks: Checks) -> None:
    """The other parser knows neither the property type `dns` of RFC 8904 nor quoted pairs."""
    made = field(ID, checks, client_address="192.0.2.1")
    properly(made)
    theirs = authres.AuthenticationResultsHeader.parse(made.decode().replace("\r\n", ""))
    assert theirs.authserv_id == ID
    ours = method_results(unfold(made.split(b": ", 1)[1]))
    assert len(ours) == len(checks.spf) + len(checks.dkim) + sum(
        one is not None for one in (checks.dmarc, checks.arc, checks.reverse_dns)
    )
    for read, mine in zip([one for one in theirs.results if one.method], ours, strict=True):
        assert (read.method, read.result) == (mine.method, mine.result)
        named = {f"{each.type}.{each.name}": each.value for each in read.properties}
        assert named | ({"reason": read.reason} if read.reason else {}) == mine.properties


def test_what_does_not_fit_is_left_out_and_passing_signatures_are_kept() -> None:
    long = "a" * 250
    failing = DkimResult(Result.FAIL, long, long, f"x@{long}", "rsa-sha256", problem="p" * 500)
    passing = DkimResult(Result.PASS, "example.org", "s1", "@example.org")
    checks = Checks(
        spf=tuple(SpfResult(Result.PERMERROR, identity, long, problem="p" * 500) for identity in Identity),
        dkim=(*[failing] * 19, passing),
        dmarc=DmarcResult(Result.FAIL, long, long, problem="p" * 500),
        arc=ArcResult(Result.FAIL, problem="p" * 500),
        reverse_dns=ReverseDnsResult(Result.FAIL),
        dns_lists=tuple(DnsListResult(long, True, ("127.0.0.2",), 1.0) for _ in range(50)),
    )
    made = field(ID, checks, client_address="192.0.2.1", override="o" * 500)
    properly(made)
    found = method_results(unfold(made.split(b": ", 1)[1]))
    methods = [each.method for each in found]
    assert {"spf", "dkim", "dmarc", "arc", "iprev"} <= set(methods)
    assert [each.properties["header.d"] for each in found if each.result == "pass"] == ["example.org"]
    assert methods.count("dkim") < 20
