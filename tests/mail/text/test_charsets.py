"""Charsets: the charset of each label, and the handling of invalid octets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webencodings.labels import LABELS

from restante_mail.header.words import decode_text
from restante_mail.text.charset_names import _CODECS
from restante_mail.text.charsets import WINDOW, TextDecoder, codec_for, decode

EVERY_CODEC = sorted(set(_CODECS.values()))


def in_pieces(octets: bytes, charset: str, cuts: list[int]) -> str:
    decoder = TextDecoder(charset)
    bounds = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    pieces = [decoder.feed(octets[start:end]) for start, end in itertools.pairwise(bounds)]
    return "".join(pieces) + decoder.feed(b"", final=True)


# Labels ---------------------------------------------------------------------------------------------------------------

LABELS_OF_MAIL = [
    ("iso-8859-1", b"\x80", "€"),
    ("windows-1252", b"\x81\x8d\x8f\x90\x9d \x80", "\x81\x8d\x8f\x90\x9d €"),  # WHATWG index windows-1252
    ("iso-8859-1", b"a\x81\xe9", "a\x81é"),
    ("windows-1252", "Á Ý".encode(), "Á Ý"),  # UTF-8 by the wrong name, with octets that Windows leaves undefined
    ("us-ascii", b"\xfc", "ü"),
    ("us-ascii", b"\xc3\xbc", "ü"),
    ("iso-8859-9", b"\x80\xfe", "€ş"),
    ("tis-620", b"\x80\xca", "€ส"),
    ("iso-8859-11", b"\xca", "ส"),
    ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
    ("iso-8859-8-e", b"\xf9\xec\xe5\xed", "שלום"),
    ("gb2312", b"\xe9F", "镕"),
    ("gbk", b"\x80", "€"),
    ("x-gbk", b"\xd6\xd0", "中"),
    ("gb18030", b"\x81\x30\x81\x30", "\x80"),
    ("ks_c_5601-1987", b"\xb0\xa1\xb0\x41", "가캚"),
    ("ks_c_5601", b"\xb0\xa1", "가"),
    ("csEUCKR", b"\xc8\xb8\xc0\xc7", "회의"),
    ("windows-949", b"\xb0\xa1", "가"),
    ("shift_jis", b"\x87\x40\xfb\xfc", "①髙"),
    ("windows-31j", b"\x91\xc5", "打"),
    ("x-sjis", b"\xb1", "ｱ"),
    ("x-euc-jp", b"\xb2\xf1\xb5\xc4", "会議"),
    ("euc-jp", b"\xad\xa1\xfc\xe2", "①髙"),
    ("euc-jp", b"\xa1\xc1\xa1\xdd", "～－"),
    ("euc-jp", b"\x8e\xb1\x8f\xb0\xa1", "ｱ丂"),
    ("cp51932", b"\xad\xa1", "①"),
    ("big5", b"\xf9\xd8\xa3\xe1\xc6\xa1\xa1\x45", "裏€①‧"),
    ("cn-big5", b"\xb7|\xc4\xb3", "會議"),
    ("cp950", b"\xb7|\xc4\xb3", "會議"),
    ("big5-hkscs", b"\x88\x62\x87\x42", "Ê̄䘃"),
    ("x-mac-cyrillic", b"\x8f\xf0", "Пр"),
    ("x-mac-ukrainian", b"\x8f", "П"),
    ("macintosh", b"\x8a", "ä"),
    ("x-cp1251", b"\xcf", "П"),
    ("koi8-r", b"\xf0", "П"),
    ("koi8-ru", b"\xf0", "П"),
    ("dos-874", b"\xca", "ส"),
    ("logical", b"\xf9", "ש"),
    ("utf-16", b"\xfe\xff\x00a", "a"),
    ("utf-16", b"\xff\xfea\x00", "a"),
    ("utf-16", b"a\x00", "a"),
    ("utf-16be", b"\x00a", "a"),
    ("utf-7", b"+AOk-", "é"),
    ("hz-gb-2312", b"~{VPND~}", "中文"),
    ("iso-2022-kr", b"\x1b$)C\x0e0!\x0f", "가"),
    ("iso-2022-cn", b"\xfc", "ü"),  # not known: as if none were declared
]


@pytest.mark.parametrize(("label", "octets", "text"), LABELS_OF_MAIL)
def test_a_label_means_the_charset_that_is_sent_by_that_name(label: str, octets: bytes, text: str) -> None:
    assert decode(octets, label) == text
    assert in_pieces(octets, label.upper(), [1]) == text


@pytest.mark.parametrize("label", sorted(label for label, name in LABELS.items() if name != "replacement"))
def test_every_label_of_the_standard_is_known(label: str) -> None:
    assert label == "x-user-defined" or codec_for(label) is not None


@pytest.mark.parametrize("name", ["idna", "punycode", "unicode_escape", "rot13", "hex", "undefined", "x" * 99, ""])
def test_codecs_that_are_no_charset_are_never_used(name: str) -> None:
    assert codec_for(name) is None
    assert decode(b"abc-", name) == "abc-"


@pytest.mark.parametrize("name", ["utf8", "'utf-8'", "ISO_8859-1", "cp-850", "Shift JIS", "ISO-8859-15", "x-utf-8"])
def test_a_label_is_known_however_it_is_spelled(name: str) -> None:
    assert codec_for(name) is not None


def test_euc_jp_is_the_extended_table_of_shift_jis() -> None:
    """WHATWG Encoding 12.1 and 12.3 share one index; Python has it as cp932 only."""
    for row in range(1, 95):
        for cell in range(1, 95):
            pair = (row - 1) * 94 + cell - 1
            lead, trail = divmod(pair, 188)
            shift_jis = bytes((lead + (0x81 if lead < 0x1F else 0xC1), trail + (0x40 if trail < 0x3F else 0x41)))
            expected = shift_jis.decode("cp932", "replace")
            if len(expected) == 1 and not "\ue000" <= expected <= "\uf8ff":
                octets = bytes((row + 0xA0, cell + 0xA0))
                assert decode(b"\xa4\xa2" + octets, "euc-jp") == "あ" + expected
                assert decode(b"\x1b$B" + bytes((row + 0x20, cell + 0x20)), "iso-2022-jp") == expected


# ISO-2022-JP ----------------------------------------------------------------------------------------------------------

JAPANESE = [
    (b"\x1b$B2q5D-!$N0FFb\x1b(B", "会議①の案内"),
    (b"\x1b(I1249\x1b(B", "ｱｲｴｹ"),
    (b"\x0e1249\x0f a", "ｱｲｴｹ a"),
    (b"\xb1\xb2 a", "ｱｲ a"),
    (b"\x1b$B|b66\x1b(B", "髙橋"),
    (b"\x1b$@F|\x1b(Ja", "日a"),
    (b"\x1b$(D0!\x1b(B", "丂"),
    (b"\x1b$BF|\nabc", "日\nabc"),  # RFC 1468: every line begins in ASCII
    (b"\x1b$BF|K\x1b(Bx", "日\ufffdx"),
    (b"\x1b$BF|\x1b(B\x1b$BK\\", "日本"),
    (b"\x1b$B", ""),
    (b"\x1b", "\x1b"),
    (b"a\x1bx", "a\x1bx"),
]


@pytest.mark.parametrize(("octets", "text"), JAPANESE)
def test_iso_2022_jp_is_read_as_programs_send_it(octets: bytes, text: str) -> None:
    assert decode(octets, "iso-2022-jp") == text
    assert in_pieces(octets, "iso-2022-jp", list(range(len(octets)))) == text


# Invalid octets -------------------------------------------------------------------------------------------------------

DAMAGE = [
    ("utf-8", "Sp\u00e9ciale r\u00e9".encode() + b"\xc3", "Spéciale ré\ufffd"),
    ("utf-8", b"Caf\xc3\xa9 \xff! cr\xc3\xa8me", "Café \ufffd! crème"),
    ("utf-8", b"\xc3\xa9\xe2\x82 \xc3\xa9", "é\ufffd é"),  # one for a character cut short
    ("", "Grüße ".encode() + b"\xff", "Grüße \ufffd"),
    ("gb2312", "会议".encode("gb2312") + b"\xc5", "会议\ufffd"),
    ("gb2312", b"\xbb\xe1\xff\xd2\xe9", "会\ufffd议"),
    ("gb2312", b"\xbb\xe1\xc5\x20\xd2\xe9", "会\ufffd 议"),  # an ASCII octet is never swallowed
    ("euc-kr", b"\xc8\xb8\xfe\xfe\xc0\xc7", "회\ufffd의"),  # a pair that is none costs the pair
    ("euc-kr", b"\xc8\xb8\xc8\x20\xc0\xc7", "회\ufffd 의"),
    ("shift_jis", b"\x91\xc5\x82\xff\x91\xc5", "打\ufffd打"),
    ("shift_jis", b"\x91\xc5\x81\xad\x91\xc5", "打\ufffd打"),
    ("big5", b"\xb7|\xc4\xb3\xfe\xff\xb7|", "會議\ufffd會"),
    ("euc-jp", b"\xb2\xf1\xff\xb5\xc4", "会\ufffd議"),
    ("euc-jp", b"\xb2\xf1\xa9\xa1\xb5\xc4", "会\ufffd議"),
    ("euc-jp", b"\xb2\xf1\x8f\xfe\xfe\xb5\xc4", "会\ufffd議"),
    ("windows-1251", b"\xcf\xf0\xe8\xe2\xe5\xf2\x98", "Привет\x98"),
    ("windows-1251", b"Hello \x98", "Hello \x98"),
    ("windows-874", b"\xa1\x81\xff", "ก\x81\ufffd"),
    ("iso-8859-7", b"\xea\xe1\xeb\xff", "καλ\ufffd"),
    ("iso-2022-jp", b"\x1b$B2q\xff5D\x1b(B", "会\ufffd議"),
]


@pytest.mark.parametrize(("charset", "octets", "text"), DAMAGE)
def test_only_the_bad_octets_are_replaced(charset: str, octets: bytes, text: str) -> None:
    assert decode(octets, charset) == text
    assert in_pieces(octets, charset, list(range(len(octets)))) == text


OTHER_CHARSETS = [
    ("utf-8", b"Gr\xfc\xdfe", "Grüße"),
    ("", b"Gr\xfc\xdfe", "Grüße"),
    ("gb2312", b"caf\xe9 ol\xe9 ", "café olé "),
    ("iso-2022-jp", "Grüße".encode(), "Grüße"),
    ("windows-1251", "Имя".encode(), "Имя"),  # D0 98, of which windows-1251 has no 98
    ("windows-1252", "Á".encode(), "Á"),  # C3 81, of which windows-1252 has no 81
    ("utf-8", b"\xb3\xd4\xbf\xed", "³Ô¿í"),
]


@pytest.mark.parametrize(("charset", "octets", "text"), OTHER_CHARSETS)
def test_a_text_that_is_in_another_charset_is_read_in_that(charset: str, octets: bytes, text: str) -> None:
    assert decode(octets, charset) == text


def test_a_text_keeps_its_charset_from_its_first_octet_to_its_last() -> None:
    start = "Grüße " * WINDOW
    assert decode(start.encode() + b"\xfc\xdf" * 5_000 + "ü".encode(), "utf-8") == start + "\ufffd" * 10_000 + "ü"
    assert decode(b"\xfc" + b" " * WINDOW + "ü".encode(), "utf-8") == "ü" + " " * WINDOW + "Ã¼"


def test_words_with_a_bad_octet_keep_their_charset() -> None:
    assert decode_text("=?utf-8?B?Q2Fmw6kg/yBjcsOobWU=?=") == "Café \ufffd crème"
    assert decode_text("=?shift_jis?B?kcWCv42Hgu2CuYLMjA==?=") == "打ち合わせの\ufffd"
    assert decode_text("Gr\xc3\xbc\xc3\x9fe \xff") == "Grüße \ufffd"


TROUBLE = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.sampled_from(
            [
                *b"\x1b$B \x1b(B \x1b(I \x1b$(D \x1b \x0e ~{ ~} +AOk- + a 0! \x8f \x8e \xff \x80 \xb2\xf1 \xb5".split(),
                *(b"\n", b" ", b"\xad\xa1", b"\xc3\xbc", b"\xe2\x82", b"\xfe\xfe"),
            ]
        )
    ).map(b"".join),
)


@given(TROUBLE, st.sampled_from([*EVERY_CODEC, ""]), st.lists(st.integers(0, 200)))
@example(b"\x1b$(D0!0\x1b(B", "iso-2022-jp", [4, 5, 6])
def test_pieces_give_what_the_whole_gives(octets: bytes, charset: str, cuts: list[int]) -> None:
    assert in_pieces(octets, charset, cuts) == decode(octets, charset)


@given(TROUBLE, st.sampled_from(["utf-8", "euc-jp", "gb2312", "iso-2022-jp", "windows-1251"]), st.integers(0, 99))
def test_pieces_give_what_the_whole_gives_around_the_window(octets: bytes, charset: str, back: int) -> None:
    text = b"\xc3\xbc" + b"x" * (WINDOW - 2 - back) + octets + b"\xc3\xbc\xb2\xf1" * 20
    assert in_pieces(text, charset, list(range(WINDOW - 99, WINDOW + 99))) == decode(text, charset)
    assert in_pieces(text, charset, [WINDOW]) == decode(text, charset)
