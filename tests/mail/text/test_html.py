"""Text of HTML: what is shown, whatever the markup and the pieces, in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante_mail.text.html import TextOfHtml, text_of_html

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
