"""ENVELOPE and BODYSTRUCTURE as literal octets; RFC 3501 4.3 and 7.4.2."""

# ruff: noqa: E501 - a rendering is one line

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.nstring import nstring
from restante_mail.limits import Limits
from restante_mail.mime.facts import scan
from tests.mail.material import crlf

BARE = '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
ALICE = '((NIL NIL "alice" "example.test"))'

ENVELOPES: dict[str, tuple[str, str]] = {
    "nothing at all": ("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
    "everything": (
        (
            "Date: Tue, 1 Sep 2026 10:00:00 +0200\nSubject: hello\nFrom: Alice <alice@example.test>\n"
            "Sender: bob@example.test\nReply-To: carol@example.test\nTo: a@x, b@x\nCc: c@x\nBcc: d@x\n"
            "In-Reply-To: <1@x>\nMessage-ID: <2@x>\n"
        ),
        (
            '("Tue, 1 Sep 2026 10:00:00 +0200" "hello" (("Alice" NIL "alice" "example.test")) ((NIL NIL "bob" "example.test")) '
            '((NIL NIL "carol" "example.test")) ((NIL NIL "a" "x")(NIL NIL "b" "x")) ((NIL NIL "c" "x")) ((NIL NIL "d" "x")) '
            '"<1@x>" "<2@x>")'
        ),
    ),
    "sender and reply-to are the author where absent": (  # RFC 3501 7.4.2
        "From: alice@example.test\n",
        f"(NIL NIL {ALICE} {ALICE} {ALICE} NIL NIL NIL NIL NIL)",
    ),
    "sender and reply-to are the author where empty": (  # RFC 3501 7.4.2
        "From: alice@example.test\nSender:\nReply-To: (nobody)\nTo: \nCc: ,\n",
        f"(NIL NIL {ALICE} {ALICE} {ALICE} NIL NIL NIL NIL NIL)",
    ),
    "several authors": (
        "From: a@x, b@x\n",
        "(NIL NIL {0} {0} {0} NIL NIL NIL NIL NIL)".format('((NIL NIL "a" "x")(NIL NIL "b" "x"))'),
    ),
    "groups": (  # RFC 3501 7.4.2
        "To: grp: a@x, B <b@x>;, c@x\nCc: undisclosed-recipients:;\n",
        (
            '(NIL NIL NIL NIL NIL ((NIL NIL "grp" NIL)(NIL NIL "a" "x")("B" NIL "b" "x")(NIL NIL NIL NIL)(NIL NIL "c" "x")) '
            '((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL)) NIL NIL NIL)'
        ),
    ),
    "encoded words are not decoded": (  # RFC 3501 4.3
        "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nTo: =?utf-8?q?J=C3=B6rg?= <j@x>\n",
        '(NIL "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" NIL NIL NIL (("=?utf-8?q?J=C3=B6rg?=" NIL "j" "x")) NIL NIL NIL NIL)',
    ),
    "8-bit goes into a literal": (  # RFC 3501 4.3
        "Subject: Gr\xc3\xbc\xc3\x9fe\nTo: J\xf6rg <j@x>\n",
        '(NIL {7}\r\nGr\xc3\xbc\xc3\x9fe NIL NIL NIL (({4}\r\nJ\xf6rg NIL "j" "x")) NIL NIL NIL NIL)',
    ),
    "folds vanish": ("Subject: one\n two\n\tthree\n", '(NIL "one two\tthree" NIL NIL NIL NIL NIL NIL NIL NIL)'),
    "empty is not absent": ("Subject:\nMessage-ID: \n", '(NIL "" NIL NIL NIL NIL NIL NIL NIL "")'),
    "quotes and backslashes": (
        'Subject: a "b" \\c\nTo: "x \\"y\\" \\\\z" <j@x>\n',
        '(NIL "a \\"b\\" \\\\c" NIL NIL NIL (("x \\"y\\" \\\\z" NIL "j" "x")) NIL NIL NIL NIL)',
    ),
    "routes, comments and quoted local parts": (
        'To: <@a,@b:c@x>, d@x (Dee), "e f"@[192.0.2.1]\n',
        '(NIL NIL NIL NIL NIL ((NIL "@a,@b" "c" "x")("Dee" NIL "d" "x")(NIL NIL "e f" "[192.0.2.1]")) NIL NIL NIL NIL)',
    ),
    "a missing domain is no group": ("To: alice\n", '(NIL NIL NIL NIL NIL ((NIL NIL "alice" "")) NIL NIL NIL NIL)'),
    "the first of repeated fields, all recipients": (
        "Subject: one\nSubject: two\nTo: a@x\nTo: b@x\n",
        '(NIL "one" NIL NIL NIL ((NIL NIL "a" "x")(NIL NIL "b" "x")) NIL NIL NIL NIL)',
    ),
    "white space before the colon": ("Subject : x\n", '(NIL "x" NIL NIL NIL NIL NIL NIL NIL NIL)'),
    "junk lines and an mbox line": (
        "From alice Tue Sep  1 10:00:00 2026\nno field\n: none\nSubject: x\n",
        '(NIL "x" NIL NIL NIL NIL NIL NIL NIL NIL)',
    ),
    "long values are literals": (
        f"Subject: {'x' * 1001}\n",
        f"(NIL {{1001}}\r\n{'x' * 1001} NIL NIL NIL NIL NIL NIL NIL NIL)",
    ),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes(name: str) -> None:
    header, expected = ENVELOPES[name]
    assert scan(crlf(header + "\n")).envelope.decode("latin-1") == expected


STRUCTURES: dict[str, tuple[str, str, str]] = {
    "nothing at all": ("\n", BARE, '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)'),
    "text carries lines behind octets": (  # RFC 3501 7.4.2
        "Content-Type: TEXT/HTML; Charset=UTF-8\nContent-Transfer-Encoding: 8BIT\n\none\ntwo\n",
        '("text" "html" ("charset" "UTF-8") NIL NIL "8bit" 10 2 NIL NIL NIL NIL)',
        '("text" "html" ("charset" "UTF-8") NIL NIL "8bit" 10 2)',
    ),
    "no lines where there is no text": (
        "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n",
        '("image" "png" NIL NIL NIL "base64" 6 NIL NIL NIL NIL)',
        '("image" "png" NIL NIL NIL "base64" 6)',
    ),
    "extension data in order": (  # RFC 3501 7.4.2
        (
            'Content-Type: application/pdf; name="a b.pdf"\nContent-ID: <1@x>\nContent-Description: a paper\n'
            'Content-MD5: Q2hlY2s=\nContent-Disposition: Attachment; FileName="a b.pdf"; size=4\n'
            "Content-Language: de, en\nContent-Location: http://example.test/\n\nxxxx"
        ),
        (
            '("application" "pdf" ("name" "a b.pdf") "<1@x>" "a paper" "7bit" 4 "Q2hlY2s=" '
            '("attachment" ("filename" "a b.pdf" "size" "4")) ("de" "en") "http://example.test/")'
        ),
        '("application" "pdf" ("name" "a b.pdf") "<1@x>" "a paper" "7bit" 4)',
    ),
    "one language": (
        "Content-Language: de\n\n",
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL "de" NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)',
    ),
    "alternative": (
        "Content-Type: multipart/alternative; boundary=b\n\n--b\n\none\n--b\nContent-Type: text/html\n\n<p>\n--b--\n",
        (
            '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL)'
            '("text" "html" NIL NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "alternative" ("boundary" "b") NIL NIL NIL)'
        ),
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0)("text" "html" NIL NIL NIL "7bit" 3 0) "alternative")',
    ),
    "multipart without parts": (  # RFC 2046 5.1.1
        "Content-Type: multipart/mixed; boundary=b\n\n",
        f'({BARE} "mixed" ("boundary" "b") NIL NIL NIL)',
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")',
    ),
    "embedded message": (  # RFC 3501 7.4.2
        "Content-Type: message/rfc822\n\nSubject: in\nFrom: alice@example.test\n\none\ntwo\n",
        (
            f'("message" "rfc822" NIL NIL NIL "7bit" 51 (NIL "in" {ALICE} {ALICE} {ALICE} NIL NIL NIL NIL NIL) '
            '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2 NIL NIL NIL NIL) 5 NIL NIL NIL NIL)'
        ),
        (
            f'("message" "rfc822" NIL NIL NIL "7bit" 51 (NIL "in" {ALICE} {ALICE} {ALICE} NIL NIL NIL NIL NIL) '
            '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 2) 5)'
        ),
    ),
    "digest": (  # RFC 2046 5.1.5
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--\n",
        (
            '(("message" "rfc822" NIL NIL NIL "7bit" 16 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL) '
            '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) '
            '"digest" ("boundary" "b") NIL NIL NIL)'
        ),
        (
            '(("message" "rfc822" NIL NIL NIL "7bit" 16 (NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL) '
            '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) 2) "digest")'
        ),
    ),
    "parameters raw, continuations as they stand": (
        "Content-Type: application/x; name*0*=utf-8''%c3; name*1*=%bc; x=\"=?utf-8?q?a?=\"\n\n",
        '("application" "x" ("name*0*" "utf-8\'\'%c3" "name*1*" "%bc" "x" "=?utf-8?q?a?=") NIL NIL "7bit" 0 NIL NIL NIL NIL)',
        '("application" "x" ("name*0*" "utf-8\'\'%c3" "name*1*" "%bc" "x" "=?utf-8?q?a?=") NIL NIL "7bit" 0)',
    ),
    "8-bit parameters are literals": (
        'Content-Type: application/x; name="\xc3\xbc"\n\n',
        '("application" "x" ("name" {2}\r\n\xc3\xbc) NIL NIL "7bit" 0 NIL NIL NIL NIL)',
        '("application" "x" ("name" {2}\r\n\xc3\xbc) NIL NIL "7bit" 0)',
    ),
    "a disposition that is a file name alone": (
        "Content-Disposition: filename=a.txt\nContent-Transfer-Encoding: 8 bit\n\n",
        '("text" "plain" ("charset" "us-ascii") NIL NIL "8bit" 0 0 NIL ("attachment" ("filename" "a.txt")) NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "8bit" 0 0)',
    ),
    "a type that is none": (
        "Content-Type: text\nContent-Disposition: ;x=y\n\n",
        BARE,
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)',
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_body_structures(name: str) -> None:
    content, full, short = STRUCTURES[name]
    facts = scan(crlf(content))
    assert facts.body_structure.decode("latin-1") == full
    assert facts.body.decode("latin-1") == short


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=40))
def test_strings_can_be_read_back_and_hold_nothing_forbidden(raw: str) -> None:
    written = nstring(raw)
    if written.startswith("{"):
        size, _, value = written.partition("\r\n")
        assert int(size[1:-1]) == len(value)
        assert value == raw.replace("\0", "")
    else:
        assert written.isascii()
        assert not set("\r\n\0") & set(written)
        assert written[1:-1].replace('\\"', '"').replace("\\\\", "\\") == raw.replace("\0", "") or "\\" in raw


def balanced(rendering: bytes) -> bool:
    """Whether parentheses match outside strings and literals."""
    depth = at = 0
    while at < len(rendering):
        octet = rendering[at : at + 1]
        if octet == b'"':
            at += 1
            while rendering[at : at + 1] != b'"':
                at += 2 if rendering[at : at + 1] == b"\\" else 1
        elif octet == b"{":
            end = rendering.index(b"}\r\n", at)
            at = end + 2 + int(rendering[at + 1 : end])
        elif octet in b"()":
            depth += 1 if octet == b"(" else -1
            if depth == 0 and at != len(rendering) - 1:
                return False
        at += 1
    return depth == 0


@given(
    st.lists(
        st.sampled_from(
            [
                'Content-Type: multipart/x; boundary="b"',
                "--b",
                "",
                'To: "a)(',
                "Subject: {3}",
                "To: g:;\\",
                "--b--",
                'Content-Disposition: "(',
                "Content-Type: message/rfc822",
                'Content-ID: "\\',
                "From: \xe9)",
            ]
        ),
        max_size=14,
    )
)
def test_renderings_are_balanced_whatever_comes(lines: list[str]) -> None:
    facts = scan("\r\n".join([*lines, ""]).encode("latin-1"))
    assert balanced(facts.envelope)
    assert balanced(facts.body_structure)
    assert balanced(facts.body)


def test_embedded_messages_share_what_is_spent_on_address_lists() -> None:
    embedded = "--b\nContent-Type: message/rfc822\n\nTo: " + "(c) a@b," * 50 + "\n\nx\n"
    content = crlf("Content-Type: multipart/mixed; boundary=b\n\n" + embedded * 3 + "--b--\n")
    address = b'("c" NIL "a" "b")'
    assert scan(content).body_structure.count(address) == 150
    assert 0 < scan(content, Limits(address_tokens=300)).body_structure.count(address) < 75
