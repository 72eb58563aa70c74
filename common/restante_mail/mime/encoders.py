"""Encoding with a content transfer encoding in pieces (RFC 2045 6.7, 6.8). *Pure.*

`transfer` decodes the joined results for any pieces to the octets that were fed.
"""

from __future__ import annotations

import binascii
from typing import Protocol

__all__ = ["TransferEncoder", "transfer_encoder"]

_TRIPLETS_OF_LINE = 57  # octets that make a line of 76 characters
_LINE = 76  # characters (RFC 2045 6.7, 6.8)
_LONGEST_LINE = 64 << 10  # octets held until their line ends


class TransferEncoder(Protocol):
    """Encodes with one encoding."""

    def feed(self, octets: bytes) -> bytes:
        """The encoded octets that later input cannot change."""

    def finish(self) -> bytes:
        """The encoded octets held back, at the end."""


def transfer_encoder(encoding: str) -> TransferEncoder:
    """An encoder for "base64" or "quoted-printable"."""
    return _Base64() if encoding == "base64" else _QuotedPrintable()


class _Base64:
    """Lines of 76 characters, with CRLF after each."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        held = self._held + octets
        whole = len(held) - len(held) % _TRIPLETS_OF_LINE
        self._held = held[whole:]
        return _base64(held[:whole])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return _base64(held)


def _base64(octets: bytes) -> bytes:
    return b"".join(
        [
            binascii.b2a_base64(octets[at : at + _TRIPLETS_OF_LINE], newline=False) + b"\r\n"
            for at in range(0, len(octets), _TRIPLETS_OF_LINE)
        ]
    )


class _QuotedPrintable:
    """CRLF stays a line end, and every other control character is encoded. Lines have at most 76 characters."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._continues = False  # the text so far ends within a line, of which no encoded line end was given

    def feed(self, octets: bytes) -> bytes:
        self._held += octets
        end = self._held.rfind(b"\r\n") + 2
        if end < 2:
            end = len(self._held) - 1 if len(self._held) > _LONGEST_LINE else 0  # CR and LF stay together
        return self._take(end)

    def finish(self) -> bytes:
        return self._take(len(self._held))

    def _take(self, end: int) -> bytes:
        taken = bytes(self._held[:end])
        del self._held[:end]
        if not taken:
            return b""
        text = b"\r\n".join(map(_line, taken.split(b"\r\n")))
        if self._continues and not text.startswith(b"\r\n"):
            text = b"=\r\n" + text
        self._continues = not taken.endswith(b"\r\n")
        return _with_room(text) if self._continues else text


def _line(line: bytes) -> bytes:
    """One line without its end."""
    if b"\n" in line:  # b2a_qp makes a line of 77 characters where a line feed is the 77th
        return _wrapped(line)
    return binascii.b2a_qp(line, istext=False).replace(b"\n", b"\r\n") if line else b""


def _wrapped(line: bytes) -> bytes:
    rows, row = [], b""
    for at, octet in enumerate(line):
        plain = (33 <= octet < 127 and octet != 61) or (octet in b" \t" and at + 1 < len(line))
        atom = bytes([octet]) if plain else b"=%02X" % octet
        if len(row) + len(atom) >= _LINE:
            rows.append(row)
            row = b""
        row += atom
    return b"=\r\n".join([*rows, row])


def _with_room(text: bytes) -> bytes:
    """The text with a last line that has room for a soft line end."""
    start = text.rfind(b"\n") + 1
    if len(text) - start < _LINE:
        return text
    last = 3 if text[-3:-2] == b"=" else 1
    return text[:-last] + b"=\r\n" + text[-last:]
