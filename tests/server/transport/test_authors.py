"""In whose name a header speaks: what mail programs write passes, whatever could be read in two ways does not."""

from __future__ import annotations

import pytest

from restante.errors import InvalidContent
from restante_server.transport.authors import authorship

ME = "alice@example.test"


def header(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("lines", "claims"),
    [
        (["From: alice@example.test"], [("From", ME)]),
        (["from:alice@example.test"], [("From", ME)]),
        (["From: <alice@example.test>"], [("From", ME)]),
        (["From: Alice Liddell <alice@example.test>"], [("From", ME)]),
        (['From: "Liddell, Alice" <alice@example.test>'], [("From", ME)]),
        (["From: Alice L. <alice@example.test>"], [("From", ME)]),
        (['From: "alice@example.test" <alice@example.test>'], [("From", ME)]),
        (["From: =?utf-8?q?Al=C3=ADce=2C_Dr=2E?= <alice@example.test>"], [("From", ME)]),
        (["From: =?utf-8?b?QWzDrWNl?=", " =?utf-8?q?_Liddell?= <alice@example.test>"], [("From", ME)]),
        (["From:", " alice@example.test"], [("From", ME)]),
        (["From: a..b.@example.test"], [("From", "a..b.@example.test")]),
        (["From: Alíce <alice@example.test>"], [("From", ME)]),
        (['From: "a b"@example.test'], [("From", '"a b"@example.test')]),
        (["From: alice@example.test, Bob <bob@example.test>", "Sender: alice@example.test"],
         [("From", ME), ("From", "bob@example.test"), ("Sender", ME)]),
        (["Resent-From: bob@example.test", "From: alice@example.test"],
         [("From", ME), ("Resent-From", "bob@example.test")]),
    ],
)  # fmt: skip
def test_what_mail_programs_write_is_read(lines: list[str], claims: list[tuple[str, str]]) -> None:
    assert list(authorship(header(*lines)).claims) == claims


@pytest.mark.parametrize(
    "lines",
    [
        # no author, or more than one From: programs show the first, the last, or both
        ["Subject: x"],
        ["From:"],
        ["From: "],
        ["From: alice@example.test", "From: boss@example.test"],
        ["From: alice@example.test", "FROM: boss@example.test"],
        ["From: alice@example.test", "Sender: alice@example.test", "Sender: boss@example.test"],
        ["From: alice@example.test, bob@example.test"],
        ["From: alice@example.test", "Sender: alice@example.test, boss@example.test"],
        ["From: alice@example.test", "To: bob@example.test", "To: carol@example.test"],
        ["From: alice@example.test", "Subject: a", "subject: b"],
        ["From: alice@example.test", "Content-Type: text/plain", "Content-Type: text/html"],
        # a field that only some programs see
        ["From : boss@example.test", "From: alice@example.test"],
        ["From\t: alice@example.test"],
        [" From: boss@example.test", "From: alice@example.test"],
        ["Subject: x", "no field", "From: alice@example.test"],
        ["From alice Mon Jan  1 00:00:00 2029", "From: alice@example.test"],
        ["From: alice@example.test", " ", "From: boss@example.test"],
        ["From: alice@example.test", "\t", " boss@example.test"],
        ["Fröm: boss@example.test", "From: alice@example.test"],
        # two addresses where one is looked for
        ["From: alice@example.test boss@example.test"],
        ["From: <boss@example.test> <alice@example.test>"],
        ["From: boss@example.test <alice@example.test>"],
        ["From: alice@example.test <boss@example.test"],
        ['From: "boss@example.test>" <alice@example.test>'],
        ['From: "<boss@example.test>" <alice@example.test>'],
        ['From: "Boss <boss@example.test>" <alice@example.test>'],
        ["From: alice@example.test,,boss@example.test", "Sender: alice@example.test"],
        ["From: ,alice@example.test"],
        ["From: alice@example.test,"],
        ["From: alice@boss@example.test"],
        ["From: <@example.net,@example.org:alice@example.test>"],
        ["From: alice@example.test; boss@example.test"],
        # groups and comments
        ["From: Team: alice@example.test, boss@example.test;", "Sender: alice@example.test"],
        ["From: undisclosed-recipients:;"],
        ["From: alice@example.test (boss@example.test)"],
        ["From: (boss@example.test) alice@example.test"],
        ["From: alice(boss@example.test)@example.test"],
        ["From: alice@(boss@example.test)example.test"],
        # white space within an address
        ["From: alice @example.test"],
        ["From: alice@ example.test"],
        ["From: <alice@example. test>"],
        ["From: alice. boss@example.test"],
        ["From: < alice@example.test>"],
        ["From: <alice@example.test >"],
        # encoded words where some decode first
        ["From: =?utf-8?q?boss=40example.test?= <alice@example.test>"],
        ["From: =?utf-8?b?Ym9zc0BleGFtcGxlLnRlc3Q=?= <alice@example.test>"],
        ["From: =?utf-8?q?=3Cboss?= <alice@example.test>"],
        ["From: =?utf-8?q?Boss=00?= <alice@example.test>"],
        ["From: =?utf-8?q?Boss=0AFrom=3A?= <alice@example.test>"],
        ['From: "=?utf-8?q?=3Cboss=40example.test=3E?=" <alice@example.test>'],
        ["From: =?utf-8?q?boss?=@example.test"],
        ["From: <=?utf-8?q?boss=40example.test=00?=@example.test>"],
        ["From: =?utf-8?q?boss =40example.test?= <alice@example.test>"],
        # octets that are no text
        ["From: alice@example.test\x01"],
        ["From: Al\x7fice <alice@example.test>"],
        ["From: alice@example.test\x85boss@example.test"],
        ["From: alice"],
        ["From: @example.test"],
        ["From: alice@"],
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidContent):
        authorship(header(*lines))


def test_bare_8_bit_is_refused() -> None:
    with pytest.raises(InvalidContent):
        authorship(b"From: Al\xedce <alice@example.test>\r\n\r\n")


def test_a_header_without_an_end_ends_with_the_message() -> None:
    assert authorship(b"From: alice@example.test\r\n").claims == (("From", ME),)


def test_hostile_headers_take_linear_time() -> None:
    for value in (
        b"(" * 500_000,
        b'"' + b"\\" * 500_001,
        b"a " * 250_000,
        b"a@" * 250_000,
        b"=?" * 250_000,
        b"." * 500_000,
    ):
        with pytest.raises(InvalidContent):
            authorship(b"From: " + value + b"\r\n\r\n")
