"""Conversion to canonical line ends, once, on input (RFC 5322 2.3, RFC 5321 2.3.8). *Pure.*

A last line without a line end stays so: a signature or a size may depend on it. POP3 and SMTP add the CRLF on output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import IncrementalNewlineDecoder
from typing import NamedTuple

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


class LineEnds(NamedTuple):
    """Faults of the original octets that SMTP must refuse."""

    bare_cr: bool
    bare_lf: bool
    nul: bool

    @property
    def canonical(self) -> bool:
        return not (self.bare_cr or self.bare_lf or self.nul)


def line_ends(octets: bytes) -> LineEnds:
    """The faults of `octets`, in one pass: Python's decoder of line ends notes which kinds occur."""
    seen = IncrementalNewlineDecoder(None, translate=False)
    seen.decode(octets.decode("latin-1"), True)
    kinds = (seen.newlines,) if isinstance(seen.newlines, str) else seen.newlines or ()
    return LineEnds(bare_cr="\r" in kinds, bare_lf="\n" in kinds, nul=b"\0" in octets)


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
        came = octets
        if self._held_cr:
            octets = b"\r" + octets
        self._held_cr = octets.endswith(b"\r")
        if self._held_cr:
            octets = octets[:-1]
        found = line_ends(octets)
        if found.nul:
            raise NulFound(self.octets_in + came.index(b"\0"))
        self.octets_in += len(came)
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
