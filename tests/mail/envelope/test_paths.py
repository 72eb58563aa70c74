"""Paths: spellings and keys by table, and invalid texts, each with its problem."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.envelope.paths import BadPath, Path, ascii_domain, parse_path


@pytest.mark.parametrize(
    ("text", "path", "written", "key"),
    [
        ("Alice@Example.TEST", Path("Alice", "Example.TEST"), "Alice@Example.TEST", "alice@example.test"),
        ('"alice"@example.test', Path("alice", "example.test"), "alice@example.test", "alice@example.test"),
        ('"a b"@example.test', Path("a b", "example.test"), '"a b"@example.test', "a b@example.test"),
        (r'"a\"b\\c"@example.test', Path('a"b\\c', "example.test"), r'"a\"b\\c"@example.test', 'a"b\\c@example.test'),
        ('"a@b"@example.test', Path("a@b", "example.test"), '"a@b"@example.test', "a@b@example.test"),
        ('""@example.test', Path("", "example.test"), '""@example.test', "@example.test"),  # RFC 5321 4.1.2 has it
        ("a..b.@example.test", Path("a..b.", "example.test"), '"a..b."@example.test', "a..b.@example.test"),
        ("a@_dmarc.example", Path("a", "_dmarc.example"), "a@_dmarc.example", "a@_dmarc.example"),
        ("ÄB@Bücher.example", Path("ÄB", "Bücher.example"), "ÄB@Bücher.example", "äb@xn--bcher-kva.example"),
        ("a\u0308@example.test", Path("ä", "example.test"), "ä@example.test", "ä@example.test"),
        ("a@[192.0.2.1]", Path("a", "[192.0.2.1]"), "a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:DB8::1]", Path("a", "[IPv6:2001:DB8::1]"), "a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]"),
    ],
)
def test_a_path_keeps_its_spelling_and_has_a_key(text: str, path: Path, written: str, key: str) -> None:
    found = parse_path(text)
    assert found == path
    assert found.address == str(found) == written
    assert found.key == key
    assert parse_path(written) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("alice", "has no domain"),
        ("alice@", "needs a domain"),
        ("alice@example..test", "has an invalid domain"),
        ("alice@-example.test", "has an invalid domain"),
        ("alice@" + "a" * 64 + ".test", "has an invalid domain"),
        ("alice@\u2028.example", "has characters"),
        ("alice@a\u00a0b.example", "invalid internationalised domain"),
        ("a b@example.test", "invalid local part"),
        ('"a"b@example.test', "invalid local part"),
        ("<alice@example.test>", "invalid local part"),
        ("a" * 256 + "@example.test", "local part of more than 255"),
        ("a" * 600 + "@example.test", "longer than 511"),
        ("alice@[300.0.0.1]", "malformed address literal"),
        ("alice@[127.1]", "malformed address literal"),
        ("alice@[IPv6:::1%eth0]", "malformed address literal"),
        ("alice@[X-tag:foo]", "malformed address literal"),
        ("alice@[192.0.2.1", "malformed address literal"),
        ("alice@example.test\r\n", "has an invalid domain"),
        ("alice\x00@example.test", "invalid local part"),
    ],
)
def test_a_text_that_is_no_path_is_refused_with_its_problem(text: str, problem: str) -> None:
    with pytest.raises(BadPath, match=problem):
        parse_path(text)


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_local_part_comes_back(local: str) -> None:
    assert parse_path(Path(local, "example.test").address) == Path(local, "example.test")


@given(st.text(max_size=40))
def test_a_path_is_a_path_however_often_it_is_read(text: str) -> None:
    try:
        path = parse_path(text)
    except BadPath:
        return
    assert parse_path(path.address) == path
    assert path.ascii_domain == ascii_domain(path.domain, literal=True)
    assert not set(path.address) & set("\r\n\0")  # nothing ends the line of a command
    assert path.needs_smtputf8 is not path.address.isascii()


def test_a_domain_alone_is_no_address_literal() -> None:
    with pytest.raises(BadPath):
        ascii_domain("[192.0.2.1]")
