"""Charset labels of mail and their decoders. *Pure.*

The table has the labels of the WHATWG Encoding standard (4.2), which decodes a charset as the superset that programs
really send, and the other charsets of Python.
"""

from __future__ import annotations

import re
from encodings.aliases import aliases

from webencodings.labels import LABELS

__all__ = ["codec_for"]

# Codecs that are not charsets, that interpret the octets as escapes, or that take quadratic time.
_NOT_FOR_MAIL = frozenset(
    "idna punycode undefined unicode_escape raw_unicode_escape string_escape mbcs oem base64_codec bz2_codec hex_codec "
    "quopri_codec rot_13 uu_codec zlib_codec palmos".split()
)
# Encodings of the standard whose Python codec has another name. Of several codecs this has the one nearest to the
# standard's table; `multibyte` corrects the remaining differences.
_CODECS_OF_ENCODINGS = {
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "ibm866": "cp866",
    "iso-2022-jp": "iso2022_jp",
    "iso-8859-8-i": "iso8859_8",
    "macintosh": "mac_roman",
    "shift_jis": "cp932",
    "x-mac-cyrillic": "mac_cyrillic",
}
_NO_ENCODING = frozenset(("replacement", "x-user-defined"))  # dangerous in a browser only
# Names that only Python knows, with the superset that the standard would use.
_SUPERSETS = {
    "big5": "big5hkscs",
    "cp950": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp_1": "iso2022_jp",
    "iso2022_jp_ext": "iso2022_jp",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "latin_1": "cp1252",
    "shift_jis": "cp932",
    "tis_620": "cp874",
}
# Names in real mail that neither knows, and ASCII. The standard decodes ASCII as windows-1252, but mail declared as
# us-ascii is as often UTF-8.
_MORE = {
    "ansi": "cp1252",
    "ansi_x3_4_1968": "ascii",
    "ansi_x3_110_1983": "cp1252",
    "ascii": "ascii",
    "cp_850": "cp850",
    "cp20932": "euc_jp",
    "cp50220": "iso2022_jp",
    "cp50221": "iso2022_jp",
    "cp50222": "iso2022_jp",
    "cp51932": "euc_jp",
    "eucjp_ms": "euc_jp",
    "eucjp_win": "euc_jp",
    "iso_2022_jp_ms": "iso2022_jp",
    "iso_8859_1_windows_3.1_latin_1": "cp1252",
    "ks_c_5601": "cp949",
    "unicode_1_1_utf_7": "utf_7",
    "unknown_8bit": "utf_8",
    "us_ascii": "ascii",
    "utf_16": "utf_16",  # with a byte order mark, not always little-endian
    "utf8mb4": "utf_8",
    "x_unknown": "utf_8",
}
_SEPARATORS = re.compile(r"[-_ .:]+")


def _squeezed(label: str) -> str:
    return _SEPARATORS.sub("", label)


def _codec_of(encoding: str) -> str:
    """Python's codec for an encoding name of the standard."""
    found = _CODECS_OF_ENCODINGS.get(encoding)
    if found is None:
        found = encoding.replace("windows-", "cp").replace("iso-8859-", "iso8859_").replace("-", "_")
    return found


def _table() -> dict[str, str]:
    """{label without separators: codec}. A fixed table, because codecs.lookup would cache every hostile name for ever
    and try to import a module of that name."""
    known = {name: module for name, module in aliases.items() if module not in _NOT_FOR_MAIL}
    known.update({module: module for module in list(known.values())})
    extra = ("koi8_u", "koi8_t", "cp720", "cp856", "cp874", "cp1006", "mac_farsi", "utf_8_sig")
    known.update({name: name for name in extra})
    table = {_squeezed(name): _SUPERSETS.get(module, module) for name, module in known.items()}
    of_standard = {label: encoding for label, encoding in LABELS.items() if encoding not in _NO_ENCODING}
    table.update({_squeezed(label): _codec_of(encoding) for label, encoding in of_standard.items()})
    table.update({_squeezed(name): codec for name, codec in _MORE.items()})
    return table


_CODECS = _table()


def codec_for(charset: str) -> str | None:
    """The name of Python's codec for a charset label of mail, or None for an unknown or untrusted one."""
    if len(charset) > 64:
        return None
    name = _squeezed(charset.strip().strip("\"'").lower())
    return _CODECS.get(name) or (_CODECS.get(name[1:]) if name.startswith("x") else None)
