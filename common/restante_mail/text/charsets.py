"""Decoding of octets by their declared charset, whole or in pieces. *Pure.*

No function raises. A text is decoded with one charset from its first octet to its last; each invalid octet becomes
U+FFFD. The charset is chosen once, by the declaration and the first `WINDOW` octets after the ASCII beginning:

1. the declared one, if it decodes the whole window (UTF-8 if it is absent, unknown or us-ascii);
2. UTF-8, if that decodes the whole window;
3. the declared one, if few octets fail: a single-octet charset always, another one if it decodes at least as many
   non-ASCII characters as it replaces;
4. windows-1252.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from restante_mail.text.charset_names import codec_for
from restante_mail.text.multibyte import as_sent, decoder

__all__ = ["WINDOW", "TextDecoder", "codec_for", "decode", "is_ascii_based"]

WINDOW = 512  # octets that decide the charset of a text

_EIGHT_BIT = re.compile(b"[\x80-\xff]")
_ASCII = bytes(range(128))
_C1 = re.compile("[\x80-\x9f]")
_SINGLE_OCTETS = ("cp", "iso8859", "koi8", "mac", "latin", "kz1048", "ptcp", "hp_roman", "tis")
_OF_WINDOWS = ("cp125", "cp874")
_PAIRS_OF_CP = frozenset(("cp932", "cp949"))


@lru_cache(maxsize=256)
def is_ascii_based(codec: str) -> bool:
    """Whether octets below 128 are ASCII until the first octet above; not so in charsets with shifts or escapes."""
    if codec.startswith(("iso2022", "hz", "utf_7", "utf_8_sig")):
        return False
    return decoder(codec).decode(_ASCII, True) == _ASCII.decode("ascii")


@lru_cache(maxsize=256)
def _meant(charset: str) -> str:
    """The codec to try first."""
    codec = codec_for(charset) if charset else None
    return "utf_8" if codec is None or codec == "ascii" else codec


def decode(octets: bytes, charset: str = "") -> str:
    """The text of `octets`, the same as by `TextDecoder`. Never raises."""
    codec = _meant(charset)
    if octets.isascii() and is_ascii_based(codec):
        return octets.decode("ascii")
    if codec != "iso2022_jp":
        try:
            return as_sent(codec, octets.decode(codec))
        except (UnicodeError, ValueError):  # some multibyte codecs raise plain ValueError on hostile input
            pass
    return TextDecoder(charset).feed(octets, final=True)


class TextDecoder:
    """`decode` for octets in pieces: the joined texts equal the text of the whole.

    Holds back at most `WINDOW` octets, and those of one character.
    """

    def __init__(self, charset: str = "") -> None:
        self._codec = _meant(charset)
        self._window = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, octets: bytes, final: bool = False) -> str:
        """The text of the held and new octets that later octets cannot change. Never raises."""
        if self._decoder is not None:
            return self._decoder.decode(octets, final)
        plain = ""
        if not self._window and is_ascii_based(self._codec):
            if octets.isascii():
                return octets.decode("ascii")
            found = _EIGHT_BIT.search(octets)
            assert found is not None
            plain, octets = octets[: found.start()].decode("ascii"), octets[found.start() :]
        window = self._window + octets
        if len(window) < WINDOW and not final:
            self._window = window
            return plain
        self._window = b""
        chosen = _chosen(self._codec, window[:WINDOW], complete=len(window) < WINDOW)
        self._decoder = decoder(chosen)
        return plain + self._decoder.decode(window, final)


def _chosen(codec: str, window: bytes, complete: bool) -> str:
    """The codec of a text that begins with this window; `complete` if the window is the whole text."""
    if codec == "utf_8":  # nearly all mail
        try:
            codecs.utf_8_decode(window, "strict", complete)
        except UnicodeDecodeError:
            pass
        else:
            return codec
    text = decoder(codec).decode(window, complete)
    bad = text.count("\ufffd")
    if codec.startswith(_OF_WINDOWS):  # no program writes C1 controls, so the text is in another charset
        bad += len(_C1.findall(text))
    if not bad:
        return codec
    if codec != "utf_8" and not window.isascii() and "\ufffd" not in decoder("utf_8").decode(window, complete):
        return "utf_8"
    if codec.startswith(_SINGLE_OCTETS) and codec not in _PAIRS_OF_CP:
        return codec
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return codec if bad <= good else "cp1252"
