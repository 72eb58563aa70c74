"""Tag lists (RFC 6376 3.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dkim.tags import TagError, octets_of, read_tags, words_of


@pytest.mark.parametrize(
    ("octets", "values"),
    [
        (b"", {}),
        (b" \r\n\t", {}),
        (b"v=1", {"v": "1"}),
        (b"v=1; a=b;", {"v": "1", "a": "b"}),
        (b"v=1;a=b ; \r\n", {"v": "1", "a": "b"}),
        (b" v \t=\r\n 1 ;\r\n\ta = b c\r\n d ", {"v": "1", "a": "b c\r\n d"}),
        (b"p=", {"p": ""}),
        (b"p=; n= ;q=x", {"p": "", "n": "", "q": "x"}),
        (b"b=ab==; bh=a=b", {"b": "ab==", "bh": "a=b"}),
        (b"x_1=1; V=2; v=1", {"x_1": "1", "V": "2", "v": "1"}),
        ("i=ä@example.org".encode(), {"i": "ä@example.org"}),
    ],
)
def test_a_tag_list_is_names_and_values(octets: bytes, values: dict[str, str]) -> None:
    assert read_tags(octets, 1_000).values == values


@pytest.mark.parametrize(
    "octets",
    [
        b"v", b"=1", b"v=1;;a=b", b";v=1", b"v=1; ;", b"1v=1", b"_v=1", b"v-1=1", b"v=1; v=1", b"v=\x00", b"v=a\r\nb",
        b"v=a\nb", b"v=a\x7f", b"v=\xff", b"v 1=2", b"v=1; a", b"v=\x0b1",
    ],
)  # fmt: skip
def test_other_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(TagError):
        read_tags(octets, 1_000)


def test_a_long_list_is_refused() -> None:
    with pytest.raises(TagError, match="more than 10 octets"):
        read_tags(b"v=123456789", 10)


def test_spans_are_those_of_the_values_with_white_space() -> None:
    octets = b"v=1; b = ab\r\n c ; h=x"
    start, end = read_tags(octets, 100).spans["b"]
    assert octets[start:end] == b" ab\r\n c "


@pytest.mark.parametrize(("value", "words"), [("a : b:c", ["a", "b", "c"]), ("", []), (" : a ::", ["a"])])
def test_words_stand_between_colons(value: str, words: list[str]) -> None:
    assert words_of(value) == words


@pytest.mark.parametrize(("value", "octets"), [("YWJj", b"abc"), ("Y W\r\n\tJj", b"abc"), ("", b"")])
def test_white_space_in_base64_is_ignored(value: str, octets: bytes) -> None:
    assert octets_of("b", value) == octets


@pytest.mark.parametrize("value", ["YWJ", "YW*j", "ä", "=", "YWJj YQ"])
def test_bad_base64_is_refused(value: str) -> None:
    with pytest.raises(TagError, match="b= is not base64"):
        octets_of("b", value)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.from_regex(r"([!-:<-~]([ \t!-:<-~]*[!-:<-~])?)?", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES), st.sampled_from([";", "; ", " ;\r\n\t"]))
def test_a_written_list_is_read_again(values: dict[str, str], between: str) -> None:
    text = between.join(f"{name}={value}" for name, value in values.items())
    assert read_tags(text.encode(), 100_000).values == values


@given(st.binary())
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        found = read_tags(octets, 1_000)
    except TagError:
        return
    for name, (start, end) in found.spans.items():
        assert octets[start:end].strip(b" \t\r\n").decode() == found.values[name]
