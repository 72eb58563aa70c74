"""Encoded words (RFC 2047) and parameters with charset and continuations (RFC 2231). *Pure.*

Input is `str` with one character for each octet (latin-1), which loses nothing before the charset is known. These
functions return decoded text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from restante_mail.text.charsets import codec_for, decode

__all__ = ["decode_parameters", "decode_text", "decode_words"]

_WORD = re.compile(r"=\?([^?\s*]{1,64})(?:\*[^?\s]{0,64})?\?([bBqQ])\?([^?\r\n]*)\?=")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_CONTINUED = re.compile(r"(.+?)\*(?:(0|[1-9][0-9]{0,5})(\*)?)?")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")


def decode_text(raw: str) -> str:
    """The unstructured text of a field, unfolded and decoded, in one line (RFC 5322 2.2.1, RFC 2047 5)."""
    if "\n" in raw:
        raw = _FOLD.sub("", raw)
    text = decode_words(raw) if "=?" in raw or not raw.isascii() else raw
    return _CONTROL.sub(" ", text).strip() if not text.isprintable() else text.strip()


def decode_words(raw: str) -> str:
    """Decode encoded words. White space between two of them is dropped (RFC 2047 6.2). Adjacent words of one charset
    are joined as octets first, since senders split characters between words. Other text is UTF-8 or windows-1252.
    """
    if "=?" not in raw:
        return raw if raw.isascii() else decode(raw.encode("latin-1", "replace"))
    out: list[str] = []
    run, run_charset, at = b"", "", 0
    for match in _WORD.finditer(raw):
        charset, how, data = match[1].lower(), match[2], match[3]
        octets = _word_octets(how, data)
        if octets is None:  # malformed base64 stays unchanged
            continue
        between = raw[at : match.start()]
        joined = bool(run_charset) and not between.strip(" \t\r\n")
        if joined and charset == run_charset and _splits_safely(charset):
            run += octets
        else:
            if run_charset:
                out.append(decode(run, run_charset))
            if not joined:
                out.append(between if between.isascii() else decode(between.encode("latin-1", "replace")))
            run, run_charset = octets, charset
        at = match.end()
    if run_charset:
        out.append(decode(run, run_charset))
    rest = raw[at:]
    out.append(rest if rest.isascii() else decode(rest.encode("latin-1", "replace")))
    return "".join(out)


def _splits_safely(charset: str) -> bool:
    """Whether octets of adjacent words may be joined. Each word of a stateful charset begins in its initial state
    (RFC 2047 6.2), so those must not be."""
    codec = codec_for(charset) or ""
    return not codec.startswith(("iso2022", "hz", "utf_7", "utf_16", "utf_32"))


def _word_octets(how: str, data: str) -> bytes | None:
    raw = data.encode("latin-1", "replace")
    if how in "qQ":
        return binascii.a2b_qp(raw, header=True)
    if len(raw) % 4 or b"=" in raw[:-2]:
        raw = _NOT_BASE64.sub(b"", raw)
        raw += b"=" * (-len(raw) % 4)
    try:
        return binascii.a2b_base64(raw)
    except binascii.Error:
        return None


def decode_parameters(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """{lower-case name: text} of raw parameters, with continuations joined and charsets decoded (RFC 2231 3 and 4).

    Also decodes encoded words, which many senders use here against RFC 2047 5. The RFC 2231 form of a name takes
    precedence over the plain one (RFC 6266 4.3), otherwise the first of equal names.
    """
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, value in pairs:
        match = _CONTINUED.fullmatch(name) if "*" in name else None
        if match is None:
            plain.setdefault(name.lower(), decode_text(value))
            continue
        number, encoded = (0, True) if match[2] is None else (int(match[2]), match[3] is not None)
        pieces.setdefault(match[1].lower(), {}).setdefault(number, (value, encoded))
    for name, numbered in pieces.items():
        joined = _joined(numbered)
        if joined is not None:
            plain[name] = joined
    return plain


def _joined(numbered: dict[int, tuple[str, bool]]) -> str | None:
    """The text of the pieces 0, 1, 2... up to the first gap, in the charset of piece 0; None without a piece 0."""
    if 0 not in numbered:
        return None
    first, encoded = numbered[0]
    charset = ""
    if encoded and first.count("'") >= 2:
        charset, _language, first = first.split("'", 2)
    pieces = [_percent(first, encoded)]
    for number in range(1, len(numbered)):
        if number not in numbered:
            break
        pieces.append(_percent(*numbered[number]))
    octets = b"".join(pieces)
    if b"=?" in octets and octets.isascii():  # encoded words that a program split into RFC 2231 pieces
        return decode_text(octets.decode("ascii"))
    return _CONTROL.sub(" ", decode(octets, charset))


def _percent(value: str, encoded: bool) -> bytes:
    return unquote_to_bytes(value.encode("latin-1", "replace")) if encoded else value.encode("latin-1", "replace")
