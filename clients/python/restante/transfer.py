"""Content transfer encodings undone piece by piece (RFC 2045 6), and text made of octets. *Pure.*"""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Iterable

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")


class Decoder:
    """Undoes one content transfer encoding. Damage is passed over, as mail programs do; nothing is raised."""

    def __init__(self, encoding: str) -> None:
        """`encoding` in any letter case; one that is not known leaves the octets as they are."""
        self._encoding = encoding.strip().lower()
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        """What can be decoded by now."""
        if self._encoding == "base64":
            return self._feed_base64(octets)
        if self._encoding == "quoted-printable":
            # Only whole lines: an escape or trailing space may be cut.
            lines = self._held + octets
            end = lines.rfind(b"\n") + 1
            self._held = lines[end:]
            return quopri.decodestring(lines[:end])
        return octets

    def finish(self) -> bytes:
        """The rest."""
        held, self._held = self._held, b""
        if self._encoding == "base64":
            return _base64(held + b"=" * (-len(held) % 4)) if len(held) > 1 else b""
        return quopri.decodestring(held) if self._encoding == "quoted-printable" else held

    def _feed_base64(self, octets: bytes) -> bytes:
        clean = self._held + _NOT_BASE64.sub(b"", octets)
        done = b""
        # Padding ends a run; what follows is another one, as when encoded pieces were joined.
        while (end := clean.find(b"=")) >= 0:
            run, clean = clean[:end], clean[end:].lstrip(b"=")
            done += _base64(run + b"=" * (-len(run) % 4)) if len(run) % 4 != 1 else _base64(run[: len(run) // 4 * 4])
        whole = len(clean) // 4 * 4
        self._held = clean[whole:]
        return done + _base64(clean[:whole])


def _base64(octets: bytes) -> bytes:
    try:
        return binascii.a2b_base64(octets)
    except binascii.Error:
        return b""


def decoded(encoding: str, pieces: Iterable[bytes]) -> bytes:
    """All the octets at once."""
    decoder = Decoder(encoding)
    return b"".join([*(decoder.feed(piece) for piece in pieces), decoder.finish()])


def _read(octets: bytes, charset: str, errors: str) -> str | None:
    """None where this charset is not known or cannot read them."""
    try:
        return octets.decode(charset, errors)
    except (LookupError, ValueError):  # some codecs raise plain ValueError
        return None


def text(octets: bytes, charset: str) -> str:
    """Text of octets in a charset; what cannot be read shows as U+FFFD, alone. Line ends become LF.

    Text of no charset, of one that is not known or of us-ascii is UTF-8, and so is what only UTF-8 reads whole."""
    names = ["utf-8"] if not charset or charset.lower() in ("us-ascii", "ascii") else [charset, "utf-8"]
    found = next((text for name in names if (text := _read(octets, name, "strict")) is not None), None)
    if found is None:
        found = _read(octets, names[0], "replace") or octets.decode("utf-8", "replace")
    return found.replace("\r\n", "\n")
