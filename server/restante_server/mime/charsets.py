"""Charsets by the names mail uses, and decoding that never fails. *Pure.*

The order of trust is: what is declared, UTF-8, windows-1252. Nothing is guessed.
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases

__all__ = ["TextDecoder", "codec_for", "decode"]

# Codecs that are no charset, read the octets as a program would, or take quadratic time.
_NOT_FOR_MAIL = frozenset(
    "idna punycode undefined unicode_escape raw_unicode_escape string_escape mbcs oem base64_codec bz2_codec hex_codec "
    "quopri_codec rot_13 uu_codec zlib_codec palmos".split()
)
# Names seen in mail that Python does not know.
_MORE = {
    "ansi": "cp1252",
    "ansi_x3_110_1983": "latin_1",
    "cp_850": "cp850",
    "iso_8859_1_windows_3.1_latin_1": "cp1252",
    "ks_c_5601": "cp949",
    "ks_c_5601_1987": "cp949",
    "ksc5601": "cp949",
    "unicode_1_1_utf_7": "utf_7",
    "unicode_1_1_utf_8": "utf_8",
    "unknown_8bit": "utf_8",
    "utf8mb4": "utf_8",
    "visual": "iso8859_8",
    "windows_874": "cp874",
    "x_gbk": "gbk",
    "x_mac_roman": "mac_roman",
    "x_sjis": "cp932",
    "x_unknown": "utf_8",
}
# RFC 2046 charsets that in practice carry their supersets (WHATWG Encoding 4.2 does the same).
_SUPERSETS = {"latin_1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
_SEPARATORS = re.compile(r"[-_ .:]+")


def _table() -> dict[str, str]:
    # A fixed table: codecs.lookup would remember every hostile name for ever and import by it.
    known = {name: module for name, module in aliases.items() if module not in _NOT_FOR_MAIL}
    known.update({module: module for module in list(known.values())})
    known.update(_MORE)
    extra = ("iso2022_jp", "gb18030", "koi8_u", "koi8_t", "cp720", "cp856", "cp874", "cp1006", "mac_farsi", "utf_8_sig")
    known.update({name: name for name in extra})
    squeezed = {_SEPARATORS.sub("", name): _SUPERSETS.get(module, module) for name, module in known.items()}
    squeezed["usascii"] = squeezed["ascii"] = "ascii"
    return squeezed


_CODECS = _table()


def codec_for(charset: str) -> str | None:
    """The name of Python's codec for a charset as mail spells it, or None when there is none we trust."""
    if len(charset) > 64:
        return None
    return _CODECS.get(_SEPARATORS.sub("", charset.strip().strip("\"'").lower()))


def decode(octets: bytes, charset: str = "") -> str:
    """`octets` as text: the declared charset, else UTF-8, else windows-1252. Never raises."""
    codec = codec_for(charset) if charset else None
    if codec is not None and codec not in ("ascii", "utf_8"):
        try:
            return octets.decode(codec)
        except (UnicodeError, ValueError):  # some multibyte codecs raise plain ValueError on hostile input
            pass
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


class TextDecoder:
    """`decode` for octets that come in pieces: from the first piece that one charset cannot read, the next is used."""

    def __init__(self, charset: str = "") -> None:
        codec = codec_for(charset) if charset else None
        self._codecs = ["utf_8", "cp1252"] if codec in (None, "ascii", "utf_8") else [str(codec), "utf_8", "cp1252"]
        self._next()

    def _next(self) -> None:
        name = self._codecs.pop(0)
        self._decoder = codecs.getincrementaldecoder(name)("strict" if self._codecs else "replace")

    def feed(self, octets: bytes, final: bool = False) -> str:
        """The text of `octets`, less a character that is not complete yet. Never raises."""
        while True:
            kept = self._decoder.getstate()[0]
            try:
                return self._decoder.decode(octets, final)
            except (UnicodeError, ValueError):
                octets = kept + octets
                self._next()
