"""Octets as text, by the charset that is declared, whole or in pieces. *Pure.*

No function raises. A text is read in one charset from its first octet to its last; an octet that is no character there
becomes U+FFFD, alone. The charset is chosen once, from the declaration and from the first `WINDOW` octets that are not
plain ASCII:

1. the declared one (without a declaration, or when it is unknown or us-ascii: UTF-8), if it reads all of the window;
2. UTF-8, if that reads all of it;
3. the declared one still, if few octets fail: a charset of single octets always, another as long as it replaces no
   more than the characters beyond ASCII that it reads;
4. windows-1252.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from restante_mail.text.charset_names import codec_for
from restante_mail.text.multibyte import as_sent, decoder

__all__ = ["WINDOW", "TextDecoder", "codec_for", "decode", "is_ascii_based"]

WINDOW = 512  # octets that decide which charset a text is in

_EIGHT_BIT = re.compile(b"[\x80-\xff]")
_ASCII = bytes(range(128))
_C1 = re.compile("[\x80-\x9f]")
_SINGLE_OCTETS = ("cp", "iso8859", "koi8", "mac", "latin", "kz1048", "ptcp", "hp_roman", "tis")
_PAIRS_OF_CP = frozenset(("cp932", "cp949"))


@lru_cache(maxsize=256)
def is_ascii_based(codec: str) -> bool:
    """Whether octets below 128 are ASCII up to the first octet above; with shifts or escapes they are not."""
    if codec.startswith(("iso2022", "hz", "utf_7", "utf_8_sig")):
        return False
    return decoder(codec).decode(_ASCII, True) == _ASCII.decode("ascii")


@lru_cache(maxsize=256)
def _meant(charset: str) -> str:
    """The codec to try first."""
    codec = codec_for(charset) if charset else None
    return "utf_8" if codec is None or codec == "ascii" else codec


def decode(octets: bytes, charset: str = "") -> str:
    """`octets` as the text that a `TextDecoder` reads from them. Never raises."""
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
    """`decode` for octets that come in pieces: their texts joined are the text of the whole.

    Holds back at most `WINDOW` octets, and those of one character.
    """

    def __init__(self, charset: str = "") -> None:
        self._codec = _meant(charset)
        self._window = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, octets: bytes, final: bool = False) -> str:
        """The text of `octets` and of the octets held back, as far as it is certain. Never raises."""
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
    """The codec of a text that begins with this window; `complete` when nothing follows it."""
    if codec == "utf_8":  # nearly all mail
        try:
            codecs.utf_8_decode(window, "strict", complete)
        except UnicodeDecodeError:
            pass
        else:
            return codec
    text = decoder(codec).decode(window, complete)
    bad = text.count("\ufffd")
    if codec == "cp1252":  # no program writes C1 controls: the text is in another charset
        bad += len(_C1.findall(text))
    if not bad:
        return codec
    if codec != "utf_8" and not window.isascii() and "\ufffd" not in decoder("utf_8").decode(window, complete):
        return "utf_8"
    if codec.startswith(_SINGLE_OCTETS) and codec not in _PAIRS_OF_CP:
        return codec
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return codec if bad <= good else "cp1252"
