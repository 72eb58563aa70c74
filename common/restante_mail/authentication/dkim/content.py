"""The octets of a message, read once for all signatures: the header whole, the body as hashes. *Pure.*

A reader of signatures joins with `on_header`. It asks there for the hashes of the body that its signatures need.
Signatures with the same canonicalization share its work, and those with the same length share the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from restante_mail.authentication.dkim.canonicalization import Body, Canonicalization, new_body, relaxed_field
from restante_mail.header.fields import fields

__all__ = ["MOST_HEADER_LINES", "MOST_HEADER_OCTETS", "BodyHash", "Content", "HeaderField", "HeaderFields"]

MOST_HEADER_OCTETS = 1 << 20  # of a header; signatures of a longer one are not verified
MOST_HEADER_LINES = 10_000  # the same
_PIECE_OCTETS = 1 << 18  # of a body that are canonicalized at once


class HeaderField(NamedTuple):
    """A field with its name in lower case and its octets, with the CRLF; its value begins at `value_start`."""

    name: bytes
    octets: bytes
    value_start: int
    place: int  # in the header, from the top

    @property
    def value(self) -> bytes:
        return self.octets[self.value_start :]


class HeaderFields:
    """The fields of one header, from the top. Relaxed forms are made once."""

    def __init__(self, block: bytes) -> None:
        if block and not block.endswith(b"\r\n"):
            block += b"\r\n"  # a header without a blank line and without its last line end
        self.fields = tuple(
            HeaderField(found.name.lower(), block[found.start : found.end], found.value_start - found.start, place)
            for place, found in enumerate(fields(block))
        )
        self._relaxed: dict[int, bytes] = {}
        self._places: dict[bytes, list[int]] | None = None

    def named(self, name: bytes) -> list[HeaderField]:
        """The fields with this lower-case name, from the top."""
        return [self.fields[place] for place in self._by_name().get(name, ())]

    def chosen(self, names: tuple[bytes, ...], form: Canonicalization, but: int = -1) -> list[bytes]:
        """The canonical fields that these lower-case names choose, without the field at the place `but`.

        The same name again is the next one from the bottom. A name without a further field chooses none (RFC 6376
        5.4.2).
        """
        by_name, left, result = self._by_name(), dict[bytes, int](), list[bytes]()
        for name in names:
            places = by_name.get(name)
            if places is None:
                continue
            at = left.get(name, len(places)) - 1
            if at >= 0 and places[at] == but:
                at -= 1
            left[name] = max(at, 0)
            if at >= 0:
                result.append(self.canonical(places[at], form))
        return result

    def canonical(self, place: int, form: Canonicalization) -> bytes:
        """The field at this place in canonical form, with its CRLF."""
        octets = self.fields[place].octets
        if form is Canonicalization.SIMPLE:
            return octets
        relaxed = self._relaxed.get(place)
        if relaxed is None:
            relaxed = self._relaxed[place] = relaxed_field(octets)
        return relaxed

    def _by_name(self) -> dict[bytes, list[int]]:
        if self._places is None:
            self._places = {}
            for place, each in enumerate(self.fields):
                self._places.setdefault(each.name, []).append(place)
        return self._places


class BodyHash:
    """SHA-256 of a canonical body, or of its first `length` octets (l=)."""

    __slots__ = ("_hash", "_left", "length", "octets")

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.octets = 0  # of the whole canonical body so far
        self._hash = hashlib.sha256()
        self._left = length

    def update(self, octets: bytes) -> None:
        self.octets += len(octets)
        if self._left is None:
            self._hash.update(octets)
        elif self._left > 0:
            self._hash.update(octets[: self._left])
            self._left -= len(octets)

    def digest(self) -> bytes:
        return self._hash.digest()

    @property
    def partial(self) -> bool:
        """Whether octets of the body are not in the hash."""
        return self.length is not None and self.octets > self.length


@dataclass(slots=True)
class _Form:
    body: Body
    hashes: dict[int | None, BodyHash] = field(default_factory=dict)

    def write(self, octets: bytes) -> None:
        for each in self.hashes.values():
            each.update(octets)


class Content:
    """A message that comes in pieces of any size. Its line ends are CRLF.

    `header` is there as soon as the header is complete, unless it has more octets or lines than the limits.
    """

    def __init__(self, most_header_octets: int = MOST_HEADER_OCTETS) -> None:
        self.header: HeaderFields | None = None
        self.header_too_long = False
        self.finished = False
        self._most = most_header_octets
        self._block = bytearray()
        self._readers: list[Callable[[HeaderFields], None]] = []
        self._forms: dict[Canonicalization, _Form] = {}

    def on_header(self, reader: Callable[[HeaderFields], None]) -> None:
        """Call `reader` when the header is complete. Join before the first octet."""
        self._readers.append(reader)

    def body_hash(self, form: Canonicalization, length: int | None = None) -> BodyHash:
        """The hash of the body that comes. Ask for it when the header is complete."""
        found = self._forms.get(form)
        if found is None:
            found = self._forms[form] = _Form(new_body(form))
        return found.hashes.setdefault(length, BodyHash(length))

    def feed(self, octets: bytes) -> None:
        """The next octets of the message."""
        if self.header is None:
            if self.header_too_long:
                return
            octets = self._feed_header(octets)
        if self._forms and octets:
            self._feed_body(octets)

    def finish(self) -> None:
        """The message has ended. Only the first call counts."""
        if self.finished:
            return
        self.finished = True
        if self.header is None and not self.header_too_long:
            self._complete(bytes(self._block))
        for form in self._forms.values():
            for octets in form.body.finish():
                form.write(octets)

    def _feed_header(self, octets: bytes) -> bytes:
        """The octets behind the header, if it ends here."""
        block = self._block
        seen = max(len(block) - 3, 0)
        block += octets
        if block.startswith(b"\r\n"):
            end = 2
        else:
            end = block.find(b"\r\n\r\n", seen)
            end = end + 4 if end >= 0 else 0
        if max(end, 0 if end else len(block)) > self._most:
            self.header_too_long = True
            self._block = bytearray()
        elif end:
            self._complete(bytes(block[: end - 2]))
            return bytes(block[end:])
        return b""

    def _complete(self, block: bytes) -> None:
        self._block = bytearray()
        if block.count(b"\n") > MOST_HEADER_LINES:
            self.header_too_long = True
            return
        self.header = HeaderFields(block)
        for reader in self._readers:
            reader(self.header)

    def _feed_body(self, octets: bytes) -> None:
        for start in range(0, len(octets), _PIECE_OCTETS):
            piece = octets if len(octets) <= _PIECE_OCTETS else octets[start : start + _PIECE_OCTETS]
            for form in self._forms.values():
                for written in form.body.feed(piece):
                    form.write(written)
