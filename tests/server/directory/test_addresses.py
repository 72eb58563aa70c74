"""Spellings of one address have one key; an invalid address has a reason."""

from __future__ import annotations

import pytest

from restante.errors import InvalidAddress
from restante_server.directory import addresses


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("alice@example.test", "alice@example.test"),
        ("Alice@Example.TEST", "alice@example.test"),
        ('"alice"@example.test', "alice@example.test"),  # RFC 5321 4.1.2
        ('"al\\ice"@example.test', "alice@example.test"),
        ('"a b"@example.test', "a b@example.test"),
        ('"a@b"@example.test', "a@b@example.test"),
        ("JÖRG@example.test", "jörg@example.test"),
        ("jo\u0308rg@example.test", "jörg@example.test"),
        ("STRASSE@example.test", "strasse@example.test"),
        ("straße@example.test", "strasse@example.test"),
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ("alice@BÜCHER.example", "alice@xn--bcher-kva.example"),
        ("alice@xn--bcher-kva.example", "alice@xn--bcher-kva.example"),
        ("alice@[192.0.2.1]", "alice@[192.0.2.1]"),
        ("alice@[IPv6:2001:DB8::1]", "alice@[ipv6:2001:db8::1]"),
        ("a%b@example.test", "a%b@example.test"),
        ("a..b@example.test", "a..b@example.test"),
        ('"a..b"@example.test', "a..b@example.test"),
        ("A.@example.test", "a.@example.test"),
        (".a@example.test", ".a@example.test"),
    ],
)
def test_spellings_of_one_address_share_a_key(text: str, key: str) -> None:
    assert addresses.key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "@example.test",
        "alice@",
        "a b@example.test",
        '""@example.test',
        '"alice@example.test',
        "alice@example..test",
        "alice@-example.test",
        "alice@example.test.",
        "alice@ex ample.test",
        "alice@[192.0.2.1",
        "alice@example.test\r\n",
        "al\u0000ice@example.test",
        "al\u202eice\u0085@example.test",
        "a@b@example.test",
        "a" * 256 + "@example.test",
        "alice@" + "a" * 64 + ".test",
        "alice@" + "a." * 130 + "test",
        "ü" * 128 + "@example.test",
        "\ud800@example.test",
    ],
)
def test_what_is_no_address_is_refused_with_the_problem(text: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        addresses.parse(text)
    assert refused.value.metadata["problem"]


@pytest.mark.parametrize("local", ["a..b", "a.", ".a", "..."])
def test_dots_where_atoms_cannot_have_them_are_written_in_quotes(local: str) -> None:  # RFC 5321 4.1.2
    assert str(addresses.parse(f"{local}@example.test")) == f'"{local}"@example.test'


def test_the_return_paths_of_mailing_lists_are_addresses() -> None:
    text = f"bounces+SRS=abcd1=yz={'b' * 100}.example.net=list@example.org"  # RFC 5321 4.5.3.1: no limit is best
    assert str(addresses.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["Alice.B@Example.test", '"a b"@example.test', '"a\\"b\\\\"@example.test', "ö@bücher.example"]
)
def test_an_address_is_written_as_it_was_spelled(text: str) -> None:
    assert str(addresses.parse(text)) == text
    assert addresses.parse(str(addresses.parse(text))) == addresses.parse(text)


@pytest.mark.parametrize(
    ("key", "base"),
    [
        ("alice+shop@example.test", "alice@example.test"),
        ("alice+a+b@example.test", "alice@example.test"),
        ("alice@example.test", None),
        ("+alice@example.test", None),
    ],
)
def test_detail_is_what_follows_the_first_plus(key: str, base: str | None) -> None:
    assert addresses.without_detail(key) == base
