"""Text of HTML: the visible text for any markup and any division into pieces, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante_mail.text.html import LinesOfHtml, TextOfHtml, lines_of_html, text_of_html

MARKUP = [
    ("plain", "plain"),
    ("a<br>b", "a\nb"),
    ("<b>rest</b>aurant", "restaurant"),
    ("a<td>b", "a b"),
    ("&lt;b&gt; &eacute; &#228; &amp;amp; &nosuch;", "<b> é ä &amp; &nosuch;"),
    ("a<!-- <b> --> b<!-->c", "a bc"),
    ("<!DOCTYPE html><?xml?>a", "a"),
    ("<script>x<b></script>a<STYLE>y</Style>b<title>t</title>", "a b"),
    ('<img alt="a > b" src=x>c', " c"),
    ("<img alt='it\"s > x'>c", " c"),
    ('<a href="x>c', "c"),
    ("1 < 2 and 3<4", "1 < 2 and 3<4"),
    ("a<", "a<"),
    ("a<b", "a"),
    ("<script>never closed", " "),
    ("<script/>a", " a"),
    ("<scripty>a", " a"),
    ("a</ b>c</>d", "acd"),
    ("a</", "a</"),
    ("a<!", "a"),
    ("<!--->a", "a"),
    ("a&am<b>p;", "a&amp;"),
    ("a\0b", "ab"),
    ("<b\n>a</b><i/>b", "ab"),
    ("<a title='x>y'>b", "b"),
    ("&notit; &nbsp;&AMP &#x41;&#65;&#0;", "¬it; \xa0& AA\ufffd"),
]


@pytest.mark.parametrize(("markup", "text"), MARKUP)
def test_the_visible_text_of_markup(markup: str, text: str) -> None:
    assert text_of_html(markup).split() == text.split()


TAGS = (
    "< > </ / <! ! <!-- -- --> ? & &am p; &amp; &#65; &# ; a \" ' = <b> </b> <p> <p <br/> <script> </script> İ".split()
)


@given(st.lists(st.sampled_from([*TAGS, " "])), st.integers(1, 9))
@example(["&am", "<b>", "p;"], 5)
@example(["<p", " ", "'", "a", ">", "a", "'"], 3)
def test_no_markup_raises_and_pieces_give_what_the_whole_gives(parts: list[str], size: int) -> None:
    markup = "".join(parts)
    reader = TextOfHtml()
    text = "".join(reader.feed(markup[at : at + size]) for at in range(0, len(markup), size))
    text += reader.feed("", final=True)
    assert text.split() == text_of_html(markup).split()
    assert text.count("İ") <= markup.count("İ")


@given(st.text())
def test_no_text_raises(markup: str) -> None:
    text_of_html(markup)


def test_a_tag_that_is_longer_than_what_is_held_ends_at_its_first_bracket() -> None:
    markup = f"<img src='{'x' * 10_000}'>shown"
    reader = TextOfHtml()
    pieces = [reader.feed(markup[at : at + 1_000]) for at in range(0, len(markup), 1_000)]
    assert "".join(pieces).split() == ["shown"]


@pytest.mark.parametrize("digits", ["1" * 5_000, "0" * 100_000, "x" + "F" * 5_000])
def test_a_character_of_any_number_is_read(digits: str) -> None:
    assert text_of_html(f"a&#{digits};b").startswith("a")


UNITS = [
    "<",
    "&",
    "<!--",
    "<a ",
    "<div>",
    "<b>",
    "</div>",
    "<a '>",
    '<a "',
    "<!",
    "<?",
    "</",
    "&#",
    "&#9",
    "&amp",
    "a<",
]


@pytest.mark.parametrize(
    "unit", [*UNITS, "<script>", "<script></script>", "<!-->", "<b>x", '<a title="x>y">', "&" + "a" * 40]
)
def test_markup_takes_linear_time_in_one_piece_and_in_many(unit: str) -> None:
    def seconds(octets: int, piece: int) -> float:
        markup = unit * (octets // len(unit))
        start = time.process_time()
        reader = TextOfHtml()
        for at in range(0, len(markup), piece):
            reader.feed(markup[at : at + piece])
        reader.feed("", final=True)
        return time.process_time() - start

    for piece in (2_000_000, 65_536):
        assert seconds(2_000_000, piece) < 1.5  # some 0.01 to 0.5


# Lines ----------------------------------------------------------------------------------------------------------------


def test_html_is_shown_without_its_markup() -> None:
    page = (
        "<html><head><title>no</title><style>p{}</style></head><body><h1>Hello</h1><p>two  words&nbsp;&amp;"
        '<br>a line</p><ul><li>one<li>two</ul><script>no()</script><a href="https://example.org/">here</a></body>'
    )
    assert lines_of_html(page) == "Hello\n\ntwo words &\na line\n\n* one\n* two\nhere <https://example.org/>\n"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("1 < 2 and 3<4", "1 < 2 and 3<4\n"),
        ("a<!-- <p> -->b<!-->c</>d", "abcd\n"),
        ("a<b title='x>y'>b</b>", "ab\n"),
        ("<a href=http://example.org/?a&amp;b>x</a>", "x <http://example.org/?a&b>\n"),
        ("<a href='#top'>x</a>", "x\n"),
        ("a<script>never closed", "a\n"),
        ("&#" + "1" * 5_000 + ";", "\ufffd" + "1" * 4_990 + ";\n"),
        ("a<", "a<\n"),
        ("a&am<b>p;", "a&amp;\n"),
        ("a<p>b&#10;c", "a\nb c\n"),  # white space is one space, however it is written
        ("a<tr\nid=1>b</TR>c", "a\nb\nc\n"),
        ("<svg>a</svg><noscript>b</noscript>c", "c\n"),
        ("<a href='https://example.org/'>https://example.org/</a>", "https://example.org/\n"),
        ("<a href='https://example.org/'><!-- x -->a</a> b</a>", "a <https://example.org/> b\n"),
        ("<a href='https://example.org/'><script>x</script>a</a>", "a <https://example.org/>\n"),
        ("<div>" * 40 + "a" + "</div>" * 40 + "b", "a\n\nb\n"),
    ],
)
def test_odd_markup_is_shown_as_far_as_it_is_text(page: str, text: str) -> None:
    assert lines_of_html(page) == text


@pytest.mark.parametrize(
    "unit", ["<", "&", "<!--", "<a ", '<a "', "<div>", "</", "<!", "<?", "a<", "<a href=", "<style", "&#", "</a>"]
)
def test_a_page_takes_linear_time(unit: str) -> None:
    start = time.process_time()
    lines_of_html(unit * (2_000_000 // len(unit)))
    assert time.process_time() - start < 3  # some 0.01 to 0.7


@given(st.lists(st.sampled_from([*TAGS, " ", "<a href='x'>", "</a>", "<li>"])), st.integers(1, 9))
def test_lines_do_not_depend_on_the_pieces(parts: list[str], size: int) -> None:
    markup = "".join(parts)
    reader = LinesOfHtml()
    text = "".join(reader.feed(markup[at : at + size]) for at in range(0, len(markup), size))
    text += reader.feed("", final=True)
    assert text.replace(" ", "") == LinesOfHtml().feed(markup, final=True).replace(" ", "")
