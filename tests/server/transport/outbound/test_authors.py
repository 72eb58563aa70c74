"""The authors of a header: common forms of mail programs pass, ambiguous ones do not."""

from __future__ import annotations

import pytest

from restante.errors import InvalidContent
from restante_server.transport.outbound.authors import authorship

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
        (["Subject: x"], []),  # From is added
        ([], []),
        (["From: alice@example.test (Alice Liddell)"], [("From", ME)]),  # RFC 5322 3.4: comments, as old programs write
        (["From: Alice <alice@example.test> (Sales \\(EMEA\\))"], [("From", ME)]),
        (["From: alice@example.test (=?utf-8?q?Al=C3=ADce?=)"], [("From", ME)]),
        (["From: alice@example.test", "To: bob@example.test", "To: carol@example.test", "Cc: a@b", "Cc: c@d"],
         [("From", ME)]),
        (["From: alice@example.test", "MIME-Version: 1.0", "MIME-Version: 1.0"], [("From", ME)]),
        (["From: alice@example.test", "Subject: caf\u00e9", "X-Name: \u00fc"], [("From", ME)]),
    ],
)  # fmt: skip
def test_what_mail_programs_write_is_read(lines: list[str], claims: list[tuple[str, str]]) -> None:
    assert list(authorship(header(*lines)).claims) == claims


@pytest.mark.parametrize(
    "lines",
    [
        # no author, or more than one From: programs show the first, the last, or both
        ["From:"],
        ["From: "],
        ["From: alice@example.test", "From: boss@example.test"],
        ["From: alice@example.test", "FROM: boss@example.test"],
        ["From: alice@example.test", "Sender: alice@example.test", "Sender: boss@example.test"],
        ["From: alice@example.test, bob@example.test"],
        ["From: alice@example.test", "Sender: alice@example.test, boss@example.test"],
        ["From: alice@example.test", "Subject: a", "subject: b"],
        ["From: alice@example.test", "Reply-To: alice@example.test", "Reply-To: boss@example.test"],
        ["From: alice@example.test", "Date: a", "Date: b"],
        ["From: alice@example.test", "Message-ID: <a@b>", "Message-Id: <c@d>"],
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
        ["From: alice@example.test (a) (b)"],
        ["From: alice@example.test (a (b))"],
        ["From: alice@example.test (a"],
        ["From: alice@example.test (<boss@example.test>)"],
        ["From: alice@example.test (a) boss@example.test"],
        ["From: Team: alice@example.test, boss@example.test;", "Sender: alice@example.test"],
        ["From: undisclosed-recipients:;"],
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
        ["From: =?utf-8?q?boss_=40_example.test?= <alice@example.test>"],
        ["From: =?utf-8?q?alice=40example.test=2C_boss=40intranet?= <alice@example.test>"],
        ["From: =?utf-8?q?boss=40example.test?= <alice@example.test>"],  # a dot ends an atom: RFC 2047 5 (3)
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


@pytest.mark.parametrize(
    "name",
    [
        '"boss@example.test"',
        "\"'boss@example.test'\"",
        '"Boss, boss@example.test."',
        '"boss\\@example.test"',
        '"the boss (boss@example.test)"',
        "=?utf-8?q?boss=40example=2Etest?=",
        "=?utf-8?b?Ym9zc0BleGFtcGxlLnRlc3Q=?=",
        "=?utf-8?q?boss=40exam?= =?utf-8?q?ple=2Etest?=",
        '"=?utf-8?q?boss=40example.test?="',
        '"boss\uff20example\uff0etest"',
        "=?utf-8?q?boss=EF=BC=A0example=E3=80=82test?=",
    ],
)
def test_an_address_in_a_name_is_a_claim_however_it_is_written(name: str) -> None:
    assert authorship(header(f"From: {name} <{ME}>")).claims == (("From", ME), ("From (name)", "boss@example.test"))


def test_an_address_in_a_comment_is_a_claim() -> None:
    claims = authorship(header(f"From: {ME} (boss@example.test)", "Sender: alice@example.test")).claims
    assert claims == (("From", ME), ("From (name)", "boss@example.test"), ("Sender", ME))


@pytest.mark.parametrize(
    "name", [f'"{ME}"', '"Alice@Example.test"', "=?utf-8?q?alice=40example=2Etest?=", '"Alice @ work"']
)
def test_a_name_that_shows_ones_own_address_or_none_is_no_further_claim(name: str) -> None:
    assert authorship(header(f"From: {name} <{ME}>")).claims == (("From", ME),)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["From: a@b.test", "From: c@d.test"], "two From fields"),
        (["From: a@b.test", *["Message-ID: <x@y>"] * 3], "three Message-ID fields"),
        (["From: a@b.test", *["Subject: x"] * 4], "4 Subject fields"),
        (["From: "], "From is empty"),
        (["From: a@b.test", "Sender: a@b.test, c@d.test"], "Sender must have exactly one address"),
        (["From: a@b.test, c@d.test"], "From has several authors, so the message needs a Sender field"),
        (["From: Team: a@b.test;"], "From is not a plain list of addresses"),
        (["Resent-From: a@b.test", "Resent-From: c@d.test", "From: e@f.test"], "two Resent-From fields"),
        (["Resent-From: a@b.test"], "the message has a Resent-From field but no From field"),
        (["Resent-To: a@b.test", "Subject: x", "Resent-From: a@b.test", "From: e@f.test"],
         "the newest block of Resent fields has no Resent-From"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_the_reason(lines: list[str], problem: str) -> None:
    with pytest.raises(InvalidContent) as refused:
        authorship(header(*lines))
    assert refused.value.metadata == {"problem": problem}


def test_a_resent_message_speaks_for_those_who_resend_it() -> None:  # RFC 5322 3.6.6
    written = authorship(
        header(
            "Resent-From: bob@example.test",
            "Resent-To: carol@example.test",
            "Resent-Cc: eve@example.net",
            "Received: from mx.example.net by mx.example.test; now",
            "Resent-From: mallory@example.net",
            "Resent-To: everybody@example.net",
            'From: "boss@example.org" <dave@example.org>',
            "Sender: list@example.org",
        )
    )
    assert written.claims == (("Resent-From", "bob@example.test"),)
    assert written.originals == (
        ("From", "dave@example.org"), ("From (name)", "boss@example.org"), ("Sender", "list@example.org"),
    )  # fmt: skip
    assert written.is_resent
    assert written.resent_to == (" carol@example.test", " eve@example.net")


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
        b'"' + b"a" * 500_000 + b' @"',
        b'"' + b"a@" * 250_000 + b'"',
        b'"' + b"a@" + b"b" * 500_000 + b'"',
        b"a@b.test (" + b"\\" * 500_001,
        b"=?u?q?=40?= " * 40_000,
    ):
        with pytest.raises(InvalidContent):
            authorship(b"From: " + value + b"\r\n\r\n")
