"""The grammar of SPF records (RFC 7208 4.5, 4.6.1, 12)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.results import Result
from restante_mail.authentication.spf.record import (
    MAX_RECORD_OCTETS,
    BadRecord,
    parse_record,
    select_record,
)


def test_a_record_has_mechanisms_and_modifiers() -> None:
    record = parse_record(
        b"v=spf1 +A/24//64 -ip4:192.0.2.0/24  ?include:%{d2} other=x exp=e.%{d} ~all redirect=r.example "
    )
    first, network, included, everything = record.mechanisms
    assert (first.name, first.result, first.target, first.prefix4, first.prefix6) == ("a", Result.PASS, None, 24, 64)
    assert (network.network, network.prefix4, network.result) == (ip_address("192.0.2.0"), 24, Result.FAIL)
    assert included.target is not None
    assert included.target.letters == {"d"}
    assert (everything.text, everything.result) == ("~all", Result.SOFTFAIL)
    assert record.explanation is not None
    assert record.redirect is not None


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ("moo", '"moo": there is no mechanism "moo"'),
        ("all:x", '"all:x": all takes no argument'),
        ("include", '"include": the domain is missing'),
        ("exists:", '"exists:": the domain is missing'),
        ("a:", '"a:": the domain is missing'),
        ("a=%z", '"a=%z": "%z" is no macro'),
        ("a/33", '"a/33": the prefix is longer than 32 bits'),
        ("mx//129", '"mx//129": the prefix is longer than 128 bits'),
        ("a/024", '"a/024" is no term'),
        ("ptr/24", '"ptr/24" is no term'),
        ("ip4:192.0.2", '"ip4:192.0.2": this is no network'),
        ("ip4:192.0.2.0/33", '"ip4:192.0.2.0/33": the prefix is longer than 32 bits'),
        ("ip4:192.0.2.01", '"ip4:192.0.2.01": this is no network'),
        ("ip6:fe80::1%eth0", '"ip6:fe80::1%eth0": this is no network'),
        ("ip6:192.0.2.1", '"ip6:192.0.2.1": this is no network'),
        ("redirect=a.b redirect=a.b", "redirect= occurs twice"),
        ("exp=", '"exp=": the domain is missing'),
        ("-", '"-" is no term'),
        ("\ta", '"?a" is no term'),
        ("+-a", '"+-a" is no term'),
        ("a:x.y" + "z" * MAX_RECORD_OCTETS, f"the record is longer than {MAX_RECORD_OCTETS} octets"),
        ("\u00e4", "the record has non-ASCII octets"),
    ],
)
def test_an_error_is_named(terms: str, problem: str) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_record(b"v=spf1 " + terms.encode())
    assert caught.value.problem == problem


def test_one_record_is_selected() -> None:
    assert select_record([b"v=spf10 -all", b"V=SPF1 -all", b"other", b""]) == b"V=SPF1 -all"
    assert select_record([b"v=spf1"]) == b"v=spf1"
    assert select_record([b"v=spf1\t-all", b" v=spf1 -all"]) is None
    with pytest.raises(BadRecord):
        select_record([b"v=spf1 -all", b"v=spf1 -all"])


TERMS = [
    "a",
    "mx",
    "ip4:",
    "ip6:",
    "192.0.2.1",
    "::1",
    "/24",
    "//64",
    "%{d}",
    "%",
    "include:",
    "=",
    "exp=",
    "all",
    " ",
    "-",
    "x.y",
]


@given(st.lists(st.sampled_from(TERMS) | st.text(max_size=3), max_size=20))
def test_any_record_is_parsed_or_refused(pieces: list[str]) -> None:
    problem = "none"
    try:
        parse_record(b"v=spf1 " + "".join(pieces).encode())
    except BadRecord as error:
        problem = error.problem
    assert problem.isprintable()
    assert len(problem) < 300
