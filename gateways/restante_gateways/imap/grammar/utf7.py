"""Modified UTF-7, the encoding of folder names in IMAP (RFC 3501 5.1.3). *Pure.*"""

from __future__ import annotations

import binascii
import re

_PRINTABLE = re.compile(rb"[\x20-\x7e]*\Z")
_PLAIN_RUN = re.compile(r"[\x20-\x7e]+|[^\x20-\x7e]+")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+,]*\Z")


class Utf7Error(ValueError):
    """The octets are not valid modified UTF-7, or the name cannot be encoded."""


def encode(name: str) -> bytes:
    """Encode `name` in modified UTF-7. Raises Utf7Error for a lone surrogate."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    pieces = []
    for run in _PLAIN_RUN.findall(name):
        if " " <= run[0] <= "~":
            pieces.append(run.replace("&", "&-").encode("ascii"))
        else:
            pieces.append(_encode_run(run))
    return b"".join(pieces)


def _encode_run(run: str) -> bytes:
    try:
        units = run.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise Utf7Error("a lone surrogate cannot be encoded") from error
    return b"&" + binascii.b2a_base64(units, newline=False).rstrip(b"=").replace(b"/", b",") + b"-"


def decode(octets: bytes) -> str:
    """Decode modified UTF-7 strictly: every name has one valid encoding only.

    Raises Utf7Error for 8-bit or control octets, an unfinished shift, printable ASCII in base64, leftover bits, two
    adjacent shifts, and lone surrogates.
    """
    if not _PRINTABLE.match(octets):
        raise Utf7Error("octets outside printable ASCII")
    if b"&" not in octets:
        return octets.decode("ascii")
    pieces = octets.split(b"&")
    decoded = [pieces[0].decode("ascii")]
    shifted_before = False
    for piece in pieces[1:]:
        shifted, dash, plain = piece.partition(b"-")
        if not dash:
            raise Utf7Error("a shift sequence without its final '-'")
        if not shifted:
            decoded.append("&")
        elif shifted_before:
            raise Utf7Error("two adjacent shift sequences")
        else:
            decoded.append(_decode_run(shifted))
        shifted_before = bool(shifted) and not plain
        decoded.append(plain.decode("ascii"))
    return "".join(decoded)


def _decode_run(shifted: bytes) -> str:
    if not _BASE64_RUN.match(shifted):
        raise Utf7Error("a shift sequence that is not base64")
    try:
        units = binascii.a2b_base64(shifted.replace(b",", b"/") + b"=" * (-len(shifted) % 4), strict_mode=True)
        run = units.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Utf7Error("a shift sequence that is not UTF-16") from error
    if any(" " <= character <= "~" for character in run):
        raise Utf7Error("printable ASCII within a shift sequence")
    if _encode_run(run) != b"&" + shifted + b"-":
        raise Utf7Error("a shift sequence with leftover bits")
    return run
