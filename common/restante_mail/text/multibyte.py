"""Decoding of East Asian charsets, with their real extensions, and with errors limited to the bad octets. *Pure.*

Python's codecs have the published tables. The WHATWG Encoding standard has the characters that programs send: the NEC
and IBM extensions of JIS X 0208, half-width kana in ISO-2022-JP (Microsoft's code page 50220), the euro of Big5 and of
GBK. For an invalid pair of octets the standard skips the pair, or only its first octet if the second is ASCII. Python's
codecs resume after the first octet, and would decode the rest of the text shifted by one octet.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["REPAIR", "Iso2022JpDecoder", "as_sent", "decoder"]

REPAIR = "restante-repair"  # the error handler of all decoders here

_BIG5 = {  # ETEN characters that HKSCS has at other codes, and the euro of Windows
    b"\xa3\xe1": "€",
    b"\xc6\xcf": "廴",
    b"\xc6\xd3": "无",
    b"\xc6\xd5": "癶",
    b"\xc6\xd7": "辵",
    b"\xc6\xde": "〃",
    b"\xc6\xdf": "仝",
}
_JIS_EXTENSION_ROWS = frozenset((13, 89, 90, 91, 92))  # NEC's, and IBM's at NEC's codes
# Similar characters in which Python's table differs from that of the standard (and Windows).
_AS_SENT = {
    "euc_jp": str.maketrans("〜‖−¢£¬", "～∥－￠￡￢"),
    "big5hkscs": str.maketrans("•､‾∼♁☉¥¢£￭", "‧﹑¯～⊕⊙￥￠￡▓"),
}


def _repair(error: UnicodeError) -> tuple[str, int]:
    """(replacement of the bad octets, offset after them)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    octets, start = error.object, error.start
    first, pair = octets[start], octets[start : start + 2]
    match error.encoding:
        case "euc_jp":
            return _repair_euc_jp(octets, start)
        case "charmap" if 0x80 <= first <= 0x9F:  # undefined in a code page of Windows: the standard has C1 controls
            return chr(first), start + 1
        case "gb18030" if first == 0x80:
            return "€", start + 1
        case "big5hkscs" if pair in _BIG5:
            return _BIG5[pair], start + 2
        case "gb18030" | "big5hkscs" | "cp949" | "cp932" | "johab":
            return "\ufffd", _behind_pair(octets, start, 0x81)
    return "\ufffd", error.end


def _behind_pair(octets: bytes, start: int, lowest_lead: int) -> int:
    """The offset after a bad pair at `start`; an ASCII octet is never skipped."""
    is_pair = lowest_lead <= octets[start] <= 0xFE and octets[start + 1 : start + 2] >= b"\x80"
    return start + 2 if is_pair else start + 1


def _repair_euc_jp(octets: bytes, start: int) -> tuple[str, int]:
    first = octets[start]
    if first == 0x8F and octets[start + 1 : start + 2] >= b"\xa1":  # JIS X 0212, in three octets
        return "\ufffd", _behind_pair(octets, start + 1, 0xA1)
    if first == 0x8E:
        return "\ufffd", _behind_pair(octets, start, 0x8E)
    row, cell = first - 0xA0, octets[start + 1] - 0xA0 if start + 1 < len(octets) else 0
    if row in _JIS_EXTENSION_ROWS and 1 <= cell <= 94:
        text = _shift_jis(row, cell).decode("cp932", "replace")
        if text != "\ufffd":
            return text, start + 2
    return "\ufffd", _behind_pair(octets, start, 0xA1)


def _shift_jis(row: int, cell: int) -> bytes:
    """The Shift_JIS code of a JIS X 0208 position; Python has the extended table only for Shift_JIS."""
    lead = (row - 1) // 2 + (0x81 if row <= 62 else 0xC1)
    trail = cell + 0x9E if row % 2 == 0 else cell + (0x3F if cell <= 63 else 0x40)
    return bytes((lead, trail))


codecs.register_error(REPAIR, _repair)


def as_sent(codec: str, text: str) -> str:
    """Text of Python's codec, corrected to the characters of the standard's table."""
    table = _AS_SENT.get(codec)
    return text.translate(table) if table is not None and not text.isascii() else text


class _Translated(codecs.IncrementalDecoder):
    """A codec of Python, with `as_sent` applied to its text."""

    def __init__(self, codec: str) -> None:
        super().__init__(REPAIR)
        self._codec = codec
        self._inner = codecs.getincrementaldecoder(codec)(REPAIR)

    def decode(self, octets: bytes, final: bool = False) -> str:  # type: ignore[override]  # any buffer there
        return as_sent(self._codec, self._inner.decode(octets, final))


class Iso2022JpDecoder(codecs.IncrementalDecoder):
    """ISO-2022-JP (RFC 1468) as code page 50220 of Windows: with the extensions of JIS X 0208, with JIS X 0212, and
    with half-width kana after an escape, after shift out, or as 8-bit octets. Each line begins in ASCII.

    It converts each run between two escapes to EUC-JP, which the EUC-JP decoder then decodes.
    """

    _SWITCH = re.compile(rb"(\x1b\([BHIJ]|\x1b\$[@B]|\x1b\$\([@BD]|[\x0e\x0f\n])")
    _UNFINISHED = re.compile(rb"\x1b(?:\(|\$\(?)?\Z")
    _KANA = re.compile(rb"[\x21-\x5f\xa1-\xdf]")
    _EIGHT_BIT_KANA = re.compile(rb"[\xa1-\xdf]")
    _PAIR = re.compile(rb"[\x21-\x7e][\x21-\x7e]?")
    _MODES = {  # noqa: RUF012  # never changed
        b"\x1b(I": "kana",
        b"\x0e": "kana",
        b"\x1b$@": "kanji",
        b"\x1b$B": "kanji",
        b"\x1b$(@": "kanji",
        b"\x1b$(B": "kanji",
        b"\x1b$(D": "supplement",
    }
    _UPPER = bytes(octet | 0x80 if 0x21 <= octet <= 0x7E else min(octet, 0x80) for octet in range(256))
    _WITHOUT_BAD = bytes(octet if octet < 0x80 or 0xA1 <= octet <= 0xDF else 0x80 for octet in range(256))

    def __init__(self, errors: str = REPAIR) -> None:
        super().__init__(errors)
        self._mode = "ascii"
        self._held = b""  # an incomplete escape
        self._half = b""  # the first octet of a pair of JIS X 0212
        self._inner = _Translated("euc_jp")

    def decode(self, octets: bytes, final: bool = False) -> str:  # type: ignore[override]  # any buffer there
        """The text that later octets cannot change."""
        octets, self._held = self._held + octets, b""
        if not final and (unfinished := self._UNFINISHED.search(octets, max(0, len(octets) - 3))):
            octets, self._held = octets[: unfinished.start()], unfinished[0]
        *runs, last = self._SWITCH.split(octets)
        out = []
        for run, switch in zip(runs[::2], runs[1::2], strict=True):
            out.append(self._inner.decode(self._as_euc(run, ended=True), True))
            self._mode = self._MODES.get(switch, "ascii")
            if switch == b"\n":
                out.append("\n")
        out.append(self._inner.decode(self._as_euc(last, ended=final), final))
        return "".join(out)

    def _as_euc(self, run: bytes, ended: bool) -> bytes:
        match self._mode:
            case "kanji":
                return run.translate(self._UPPER)
            case "supplement":
                return self._supplement(run, ended)
            case "kana":
                run = run.translate(self._WITHOUT_BAD)
                return self._KANA.sub(lambda kana: bytes((0x8E, kana[0][0] | 0x80)), run)
        if run.isascii():
            return run
        return self._EIGHT_BIT_KANA.sub(b"\x8e\\g<0>", run.translate(self._WITHOUT_BAD))

    def _supplement(self, run: bytes, ended: bool) -> bytes:
        run, self._half = self._half + run, b""
        if not ended and (odd := self._odd(run)):
            run, self._half = run[:-1], odd
        return self._PAIR.sub(self._three_octets, run)

    def _odd(self, run: bytes) -> bytes:
        """The last octet if it begins a pair, else no octets."""
        pairs = list(self._PAIR.finditer(run))
        return pairs[-1][0] if pairs and len(pairs[-1][0]) == 1 and pairs[-1].end() == len(run) else b""

    @staticmethod
    def _three_octets(found: re.Match[bytes]) -> bytes:
        pair = found[0]
        return bytes((0x8F, pair[0] | 0x80, pair[1] | 0x80)) if len(pair) == 2 else b"\x80"


class _Marked(codecs.IncrementalDecoder):
    """UTF-16 or UTF-32 in the byte order of its mark; little-endian without a mark, which Python's decoder requires."""

    def __init__(self, codec: str) -> None:
        super().__init__(REPAIR)
        self._codec, self._unit = codec, 2 if codec == "utf_16" else 4
        self._start = b""
        self._inner: codecs.IncrementalDecoder | None = None

    def decode(self, octets: bytes, final: bool = False) -> str:  # type: ignore[override]  # any buffer there
        if self._inner is not None:
            return self._inner.decode(octets, final)
        self._start += octets
        if len(self._start) < self._unit and not final:
            return ""
        order = "be" if self._start.startswith("\ufeff".encode(f"{self._codec}_be")) else "le"
        self._inner = codecs.getincrementaldecoder(f"{self._codec}_{order}")(REPAIR)
        return self._inner.decode(self._start, final).removeprefix("\ufeff")


def decoder(codec: str) -> codecs.IncrementalDecoder:
    """A decoder of this codec (a name in `charset_names`), which never raises and skips errors like the standard."""
    if codec == "iso2022_jp":
        return Iso2022JpDecoder()
    if codec in ("utf_16", "utf_32"):
        return _Marked(codec)
    if codec in _AS_SENT:
        return _Translated(codec)
    return codecs.getincrementaldecoder(codec)(REPAIR)
