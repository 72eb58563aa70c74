"""Macro strings: the examples of RFC 7208 7.4, and the grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.spf.macros import (
    MAX_EXPANDED_OCTETS,
    MAX_NAME_OCTETS,
    BadMacro,
    parse_domain_spec,
    parse_explanation,
    parse_macro_string,
)

VALUES = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "p": "mx.example.org",
    "v": "in-addr",
    "h": "mx.example.org",
    "c": "192.0.2.3",
    "r": "receiver.example",
    "t": "1767312000",
}
IPV6 = VALUES | {"i": ".".join("20010db800000000000000000000cb01"), "v": "ip6"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("a%%b%_c%-d", "a%b c%20d"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%{d0000000000000000000002}", "example.com"),
        ("%{d99999999999999999999}", "email.example.com"),
    ],
)
def test_a_macro_string_expands(text: str, expanded: str) -> None:
    assert parse_macro_string(text).expand(VALUES) == expanded


def test_an_ipv6_address_is_written_as_nibbles() -> None:
    expanded = parse_macro_string("%{ir}.%{v}._spf.%{d2}").expand(IPV6)
    nibbles = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
    assert expanded == f"{nibbles}.ip6._spf.example.com"


def test_an_explanation_has_spaces_and_more_letters() -> None:
    text = parse_explanation("%{c} is not allowed%% by %{r} at %{t}")
    assert text.expand(VALUES) == "192.0.2.3 is not allowed% by receiver.example at 1767312000"


@pytest.mark.parametrize(
    "text", ["%", "a%", "%{", "%{d", "%{}", "%{a}", "%{d0}", "%{d2x}", "%{c}", "%{r}", "%(d)", "a b", "a\tb", "ä"]
)
def test_text_that_is_no_macro_string_is_refused(text: str) -> None:
    with pytest.raises(BadMacro):
        parse_macro_string(text)


@pytest.mark.parametrize("text", ["", "a", "foo-bar", "a.1", "a.-b", "a.b-", "a.b..", ".", "a.%%b", "%{d}x", "a.b/"])
def test_a_domain_spec_ends_with_a_label_or_a_macro(text: str) -> None:
    with pytest.raises(BadMacro):
        parse_domain_spec(text)


@pytest.mark.parametrize(
    "text", ["a.b", "a.b.", ".com", "%{d}", "a%%", "a%_", "a.1b", "a.b1", "a.b-c", "x%{d2r}", "%%{d}.c"]
)
def test_a_domain_spec_is_taken(text: str) -> None:
    parse_domain_spec(text)


def test_a_long_name_loses_labels_on_the_left() -> None:
    labels = [f"label{number:04}" for number in range(30)]
    name = parse_domain_spec("%{l}.%{o}").expand_name({"l": "x", "o": ".".join(labels) + ".org"})
    assert name == ".".join(labels[5:]) + ".org"  # 25 labels of 10 octets with their dots
    assert len(name) == MAX_NAME_OCTETS


def test_an_expansion_is_bounded() -> None:
    assert len(parse_macro_string("%{l}" * 2000).expand({"l": "x" * 255})) == MAX_EXPANDED_OCTETS


@given(st.text(alphabet="%{}drslio2-.a _/", max_size=40))
def test_any_text_is_a_macro_string_or_refused(text: str) -> None:
    try:
        parsed = parse_macro_string(text)
    except BadMacro:
        return
    assert len(parsed.expand_name(VALUES)) <= MAX_NAME_OCTETS
