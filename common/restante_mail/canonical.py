"""Line ends made canonical, once, where octets enter (RFC 5322 2.3, RFC 5321 2.3.8). *Pure.*

A last line without an end is left so: a signature or a size may depend on it. POP3 and SMTP end it on the wire.
"""

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
    """`octets` with CRLF in place of every other line end; `changed` when any was another."""

    octets: bytes
    changed: bool


@dataclass(frozen=True, slots=True)
class LineEnds:
    """Faults that SMTP must refuse, as found in octets before they are made canonical."""

    bare_cr: bool
    bare_lf: bool
    nul: bool

    @property
    def canonical(self) -> bool:
        return not (self.bare_cr or self.bare_lf or self.nul)


def line_ends(octets: bytes) -> LineEnds:
    """Judge `octets` without changing them. Linear, at the speed of counting."""
    pairs = octets.count(b"\r\n")
    return LineEnds(
        bare_cr=octets.count(b"\r") != pairs,
        bare_lf=octets.count(b"\n") != pairs,
        nul=b"\0" in octets,
    )


def canonicalise(octets: bytes) -> Canonical:
    """Bare CR and bare LF become CRLF. Canonical octets come back as the same object. Raises NulFound."""
    found = line_ends(octets)
    if found.nul:
        raise NulFound(octets.index(b"\0"))
    if found.canonical:
        return Canonical(octets, changed=False)
    return Canonical(_BARE.sub(b"\r\n", octets), changed=True)


class Canonicaliser:
    """The same for octets that come in pieces: the results of `feed` and `finish` joined are that of the whole.

    Holds back one octet at most (a CR whose LF may follow).
    """

    def __init__(self) -> None:
        self.changed = False
        self.octets_in = 0
        self._held_cr = False

    def feed(self, octets: bytes) -> bytes:
        """The canonical form of the octets that are certain so far. Raises NulFound, with the offset in the whole."""
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
        return octets

    def finish(self) -> bytes:
        """The last line end, when a CR was held back."""
        if not self._held_cr:
            return b""
        self.changed, self._held_cr = True, False
        return b"\r\n"
