"""Decoding of content transfer encodings in pieces (RFC 2045 6). *Pure.*

Decoders skip malformed octets, as mail programs do, and never raise. An unknown encoding leaves the octets unchanged.
"""

from __future__ import annotations

import binascii
import enum
import re
from collections.abc import Iterable, Iterator
from typing import Protocol

__all__ = ["TransferDecoder", "decode_pieces", "is_encoded", "transfer_decoder"]

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64_ALPHABET))
_NO_DIGITS = re.compile(rb"[^A-Za-z0-9+/]*+")
_LINE_OF_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?[ \t\r]*+")
_LONGEST_LINE = 1_000  # octets held until their line ends (RFC 5322 2.1.1 allows 998); a multiple of four


class TransferDecoder(Protocol):
    """Decodes one encoding. The joined results for any pieces equal the result for the whole."""

    def feed(self, octets: bytes) -> bytes:
        """The octets that later input cannot change."""

    def finish(self) -> bytes:
        """The octets held back, at the end of the encoded text."""


def transfer_decoder(encoding: str) -> TransferDecoder:
    """A decoder for a Content-Transfer-Encoding in any letter case."""
    match encoding.strip().lower():
        case "base64":
            return _Base64()
        case "quoted-printable":
            return _QuotedPrintable()
    return _Identity()


def is_encoded(encoding: str) -> bool:
    """Whether octets in this encoding differ from the decoded ones."""
    return encoding.strip().lower() in ("base64", "quoted-printable")


def decode_pieces(decoder: TransferDecoder, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The results of a decoder for these pieces, which are the whole of the encoded octets."""
    for piece in pieces:
        if octets := decoder.feed(piece):
            yield octets
    if octets := decoder.finish():
        yield octets


class _Identity:
    """7bit, 8bit, binary, and every unknown encoding."""

    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


class _State(enum.Enum):
    RUN = enum.auto()  # in base64
    REST_OF_LINE = enum.auto()  # after padding, up to the next line
    BETWEEN = enum.auto()  # at the beginning of a line that may begin another run
    ENDED = enum.auto()


class _Base64:
    """Ignores characters outside the alphabet (RFC 2045 6.8). Padding ends a run of base64 and its line.

    Some programs concatenate encoded pieces, so the following lines are another run if the first one with a base64
    digit is valid base64. Otherwise they are the plain-text footer of a mailing list, and the data has ended.
    """

    def __init__(self) -> None:
        self._state = _State.RUN
        self._held = b""  # digits of an unfinished quantum in a run; an unfinished line between runs

    def feed(self, octets: bytes) -> bytes:
        return self._decode(octets, final=False)

    def finish(self) -> bytes:
        return self._decode(b"", final=True)

    def _decode(self, octets: bytes, final: bool) -> bytes:
        out = []
        while True:
            match self._state:
                case _State.RUN:
                    padding = octets.find(b"=")
                    out.append(self._run(octets if padding < 0 else octets[:padding], ended=final or padding >= 0))
                    octets = octets[padding + 1 :] if padding >= 0 else b""
                    if padding >= 0:
                        self._state = _State.REST_OF_LINE
                case _State.REST_OF_LINE:
                    line_end = octets.find(b"\n")
                    octets = octets[line_end + 1 :] if line_end >= 0 else b""
                    if line_end >= 0:
                        self._state = _State.BETWEEN
                case _State.BETWEEN:
                    octets = self._between(self._held + octets, final)
                case _State.ENDED:
                    octets = b""
            if not octets:
                return out[0] if len(out) == 1 else b"".join(out)

    def _run(self, octets: bytes, ended: bool) -> bytes:
        """Decode a piece of a run."""
        digits = self._held + octets.translate(None, _NOT_BASE64)
        if ended:  # add missing padding; a single digit is not an octet
            self._held = b""
            digits = digits[:-1] if len(digits) % 4 == 1 else digits + b"=" * (-len(digits) % 4)
        else:
            whole = len(digits) & ~3
            digits, self._held = digits[:whole], digits[whole:]
        return binascii.a2b_base64(digits)

    def _between(self, text: bytes, final: bool) -> bytes:
        """Set the state by the first line of `text`; return the text left to decode."""
        self._held = b""
        line_end = text.find(b"\n")
        if line_end < 0 and len(text) < _LONGEST_LINE and not final:
            self._held = text
            return b""
        line = text[: min(line_end, _LONGEST_LINE) if line_end >= 0 else _LONGEST_LINE]
        if _NO_DIGITS.fullmatch(line):
            self._state = _State.REST_OF_LINE
        else:
            self._state = _State.RUN if _LINE_OF_BASE64.fullmatch(line) else _State.ENDED
        return text


class _QuotedPrintable:
    """Decodes whole lines; of a line above `_LONGEST_LINE`, the part that its rest cannot change."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        held = self._held + octets
        cut = held.rfind(b"\n") + 1 or _certain(held)
        self._held = held[cut:]
        return _quoted_printable(held[:cut]) if cut else b""

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return _quoted_printable(held)


def _certain(line: bytes) -> int:
    """The length of the part of an unfinished line that can be decoded without the rest. A partial escape cannot, nor
    white space that may be before a line end."""
    escape = line.find(b"=", max(0, len(line) - 2))
    kept = line[:escape] if escape >= 0 else line
    kept = kept.rstrip(b" \t\r")
    if kept.endswith(b"="):
        kept = kept[:-1]
    return len(kept) if len(line) - len(kept) < _LONGEST_LINE else len(line)


def _quoted_printable(octets: bytes) -> bytes:
    # Trailing white space of a line was added in transport (RFC 2045 6.7 (3)).
    if b" \r\n" in octets or b"\t\r\n" in octets:
        octets = b"\r\n".join([line.rstrip(b" \t") for line in octets.split(b"\r\n")])
    return binascii.a2b_qp(octets)
