"""Line ends made canonical, once, where octets enter (RFC 5322 2.3, RFC 5321 2.3.8). *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Canonical", "Canonicaliser", "LineEnds", "NulFound", "canonicalise", "line_ends"]

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class NulFound(ValueError):
    """The octets hold a NUL, which no content may (RFC 5322 2.2, RFC 3501 9 CHAR8)."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"NUL at offset {offset}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Canonical:
    """`octets` with every line ended by CRLF; `changed` when they are not what came."""

    octets: bytes
    changed: bool


@dataclass(frozen=True, slots=True)
class LineEnds:
    """What SMTP must refuse, as found in octets as they came."""

    bare_cr: bool
    bare_lf: bool
    nul: bool
    unfinished: bool  # octets, and the last line has no CRLF

    @property
    def canonical(self) -> bool:
        return not (self.bare_cr or self.bare_lf or self.nul or self.unfinished)


def line_ends(octets: bytes) -> LineEnds:
    """Judge `octets` without changing them. Linear, at the speed of counting."""
    pairs = octets.count(b"\r\n")
    return LineEnds(
        bare_cr=octets.count(b"\r") != pairs,
        bare_lf=octets.count(b"\n") != pairs,
        nul=b"\0" in octets,
        unfinished=bool(octets) and not octets.endswith(b"\r\n"),
    )


def canonicalise(octets: bytes) -> Canonical:
    """Bare CR and bare LF become CRLF and a missing last CRLF is added; empty octets stay empty.

    Canonical octets come back as the same object. Raises NulFound.
    """
    found = line_ends(octets)
    if found.nul:
        raise NulFound(octets.index(b"\0"))
    if found.canonical:
        return Canonical(octets, changed=False)
    if found.bare_cr or found.bare_lf:
        octets = _BARE.sub(b"\r\n", octets)
    if not octets.endswith(b"\r\n"):
        octets += b"\r\n"
    return Canonical(octets, changed=True)


class Canonicaliser:
    """The same for octets that come in pieces: what `feed` and `finish` return is `canonicalise` of the whole.

    Holds back one octet at most (a CR whose LF may follow).
    """

    def __init__(self) -> None:
        self.changed = False
        self.octets_in = 0
        self._held_cr = False
        self._ended = True  # nothing came, or the last octets given out were CRLF

    def feed(self, octets: bytes) -> bytes:
        """The canonical form of what is certain so far. Raises NulFound, with the offset in the whole."""
        if (nul := octets.find(b"\0")) >= 0:
            raise NulFound(self.octets_in + nul)
        self.octets_in += len(octets)
        if self._held_cr:
            octets = b"\r" + octets
        self._held_cr = octets.endswith(b"\r")
        if self._held_cr:
            octets = octets[:-1]
        if not octets:
            return b""
        found = line_ends(octets)
        if found.bare_cr or found.bare_lf:
            self.changed = True
            octets = _BARE.sub(b"\r\n", octets)
        self._ended = octets.endswith(b"\r\n")
        return octets

    def finish(self) -> bytes:
        """The last octets, a missing CRLF among them."""
        if not self._held_cr and self._ended:
            return b""
        self.changed, self._held_cr, self._ended = True, False, True
        return b"\r\n"
