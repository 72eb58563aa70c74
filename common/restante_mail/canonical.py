"""Conversion to canonical line ends, once, on input (RFC 5322 2.3, RFC 5321 2.3.8). *Pure.*

A last line without a line end stays so: a signature or a size may depend on it. POP3 and SMTP add the CRLF on output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Canonical", "Canonicaliser", "LineEnds", "NulFound", "canonicalise", "line_ends"]

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class NulFound(ValueError):
    """The octets have a NUL, which is forbidden in a content (RFC 5322 2.2, RFC 3501 9 CHAR8)."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"NUL at offset {offset}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Canonical:
    """Octets whose line ends are all CRLF; `changed` if the conversion changed any."""

    octets: bytes
    changed: bool


@dataclass(frozen=True, slots=True)
class LineEnds:
    """Faults of the original octets that SMTP must refuse."""

    bare_cr: bool
    bare_lf: bool
    nul: bool

    @property
    def canonical(self) -> bool:
        return not (self.bare_cr or self.bare_lf or self.nul)


def line_ends(octets: bytes) -> LineEnds:
    """The faults of `octets`. Takes linear time, at the speed of `bytes.count`."""
    pairs = octets.count(b"\r\n")
    return LineEnds(
        bare_cr=octets.count(b"\r") != pairs,
        bare_lf=octets.count(b"\n") != pairs,
        nul=b"\0" in octets,
    )


def canonicalise(octets: bytes) -> Canonical:
    """Convert bare CR and bare LF to CRLF. Returns canonical octets as the same object. Raises NulFound."""
    found = line_ends(octets)
    if found.nul:
        raise NulFound(octets.index(b"\0"))
    if found.canonical:
        return Canonical(octets, changed=False)
    return Canonical(_BARE.sub(b"\r\n", octets), changed=True)


class Canonicaliser:
    """`canonicalise` for octets in pieces: the joined results of `feed` and `finish` equal the result for the whole.

    Holds back at most one octet (a CR whose LF may follow).
    """

    def __init__(self) -> None:
        self.changed = False
        self.octets_in = 0
        self._held_cr = False

    def feed(self, octets: bytes) -> bytes:
        """The canonical octets so far, without a held CR. Raises NulFound, with the offset in the whole."""
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
        """The last line end if a CR was held back, else no octets."""
        if not self._held_cr:
            return b""
        self.changed, self._held_cr = True, False
        return b"\r\n"
