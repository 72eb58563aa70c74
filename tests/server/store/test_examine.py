"""Text conditions: any faster evaluation gives what the folded text of the message gives."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante_mail.mime.facts import scan
from restante_mail.mime.parts import encode
from restante_mail.mime.text import text_chunks
from restante_mail.text.fold import fold, occurs
from restante_server.store.examine import Examined
from restante_server.store.restriction import HasText, TextField

PIECES = [
    *(
        "s",
        "t",
        "S",
        "ü",
        "ß",
        "st",
        "sst",
        "\u00ad",
        "\u0308",
        "ﬆ",
        "é",
        "\u00a0",
        " ",
        "\r\n",
        "&",
        ";",
        "<",
        ">",
        "-",
    ),
    *(
        "<b>",
        "</b>",
        "<p>",
        "<!-- s -->",
        "<script>",
        "</script>",
        "&nbsp;",
        "&amp;",
        "&uuml;",
        "&#115;",
        "&#115",
        "\u200b",
    ),
    *("&lt;", "&ss", "&NBSP;", "&Amp;", "=", "=\r\n", "=73", "\x01", "中", "Ø", "&#20013;"),
]
NEEDLES = [
    "s",
    "st",
    "sst",
    "ssts",
    "u",
    "ust",
    "e",
    "s t",
    "s-",
    "&",
    "amp",
    "nbsp",
    "st<",
    "ﬆ",
    "中",
    "tststststststst",
]
KINDS = [
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "text/plain",
    "text/html; charset=iso-8859-1",
    "text/calendar; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable",
    "message/rfc822",
    "image/png",
]


def holds(content: bytes, needle: str) -> bool:
    structure = encode(scan(content).tree)
    return Examined(b"", content, structure).holds(HasText(TextField.BODY, fold(needle)))


def by_definition(content: bytes, needle: str) -> bool:
    return occurs(fold(needle), text_chunks(content, scan(content).tree))


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.lists(st.sampled_from(PIECES), max_size=9)), min_size=1, max_size=3)
)
@example([("text/html", ["<b>", "s", "</b>", "t"])])
@example([("text/html", ["&uuml;", "st"])])
@example([("text/html", ["&nbsp;", "st", "&amp;", "s"])])
@example([("text/plain; charset=utf-8", ["s\u0308", "t"])])
def test_the_quick_answer_is_that_of_the_folded_text(parts: list[tuple[str, list[str]]]) -> None:
    bodies = [f"Content-Type: {kind}\r\n\r\n{''.join(pieces)}" for kind, pieces in parts]
    whole = "\r\n--b\r\n".join(["Content-Type: multipart/mixed; boundary=b\r\n", *bodies]) + "\r\n--b--\r\n"
    for content in (whole.encode(), bodies[0].encode()):
        for needle in NEEDLES:
            assert holds(content, needle) == by_definition(content, needle), needle


@pytest.mark.parametrize(
    ("markup", "found"),
    [("quick<b>silver</b>", True), ("quick<br>silver", False), ("quick&shy;silver", True), ("QuickSilver", True)],
)
def test_a_word_divided_by_markup_is_found(markup: str, found: bool) -> None:
    assert holds(f"Content-Type: text/html\r\n\r\n{markup} and &nbsp; more".encode(), "quicksilver") is found


def test_the_beginning_of_a_long_word_is_enough_to_look_closer() -> None:
    word = "incomprehensibilities"
    for at in range(1, len(word)):
        content = f"Content-Type: text/html\r\n\r\n<p>{word[:at]}<i>{word[at:]}</i>".encode()
        assert holds(content, word)
    assert not holds(b"Content-Type: text/html\r\n\r\n<p>incomprehensible</p>", word)
