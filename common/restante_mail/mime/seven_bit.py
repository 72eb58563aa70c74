"""The conversion of a content to 7 bits, for a server without 8BITMIME (RFC 6152 3). *Pure.*

It takes two passes over the octets, so that neither holds the content: `Survey` sees them all and decides, and its
`Conversion` has the steps that make the result. Text with octets above 127 or with lines of more than 998 becomes
quoted-printable, other such parts base64; multiparts and embedded messages stay what they are, with converted parts
(RFC 2045 6.4). All other octets stay unchanged. What has no correct conversion raises NotConvertible:

- signed parts, whose signature would no longer hold (RFC 1847 2.1);
- octets above 127 in the header of a part or of an embedded message, since nothing says what they mean (the header of
  the message itself is not converted: programs have always sent it as it is);
- octets that belong to no part, and parts without a header that could name an encoding;
- types that forbid an encoding, such as message/partial (RFC 2046 5.2), and unknown encodings.
"""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from restante_mail.header.fields import fields
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.mime.encoders import transfer_encoder
from restante_mail.mime.parts import Part
from restante_mail.mime.transfer import transfer_decoder

__all__ = [
    "Conversion",
    "Copy",
    "Header",
    "NotConvertible",
    "Recoder",
    "Recoding",
    "Survey",
    "carried_out",
    "has_long_line",
    "seven_bit",
]

LONGEST_LINE = 998  # octets without CRLF (RFC 5322 2.1.1, RFC 5321 4.5.3.1.6)
_IDENTITY = ("7bit", "8bit", "binary")
_OWN_ENCODING = (*_IDENTITY, "base64", "quoted-printable")
# RFC 6532 3.7, RFC 6533 4: unlike other types of message, these may have an encoding.
_ENCODABLE_MESSAGES = frozenset(f"message/global{kind}" for kind in ("", "-delivery-status", "-headers")) | {
    "message/global-disposition-notification"
}


class NotConvertible(Exception):
    """The content cannot be converted. The text has the reason."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The octets [start, end) of the content."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header [start, end), at most 1 MiB, with other fields: see `apply`."""

    start: int
    end: int
    encoding: str
    is_message: bool  # of the content or of an embedded message, which needs MIME-Version (RFC 2045 4)
    charset: str  # for a message without Content-Type; else empty

    def apply(self, block: bytes) -> bytes:
        """The header with this Content-Transfer-Encoding alone, and with MIME-Version and Content-Type if needed."""
        out, at, named, present = bytearray(), 0, False, set[bytes]()
        line = b"Content-Transfer-Encoding: " + self.encoding.encode() + b"\r\n"
        for field in fields(block):
            name = field.name.lower()
            present.add(name)
            if name == b"content-transfer-encoding":
                out += block[at : field.start]
                out += b"" if named else line
                at, named = field.end, True
        out += block[at:-2]
        if self.is_message and b"mime-version" not in present:
            out += b"MIME-Version: 1.0\r\n"
        if self.is_message and self.charset and b"content-type" not in present:
            out += b"Content-Type: text/plain; charset=" + self.charset.encode() + b"\r\n"
        if not named:
            out += line
        return bytes(out) + b"\r\n"


@dataclass(frozen=True, slots=True)
class Recoding:
    """The body [start, end) in another encoding: see `Recoder`."""

    start: int
    end: int
    old: str
    new: str


class Recoder:
    """Carries out a Recoding for pieces of the body."""

    def __init__(self, recoding: Recoding) -> None:
        self._decoder, self._encoder = transfer_decoder(recoding.old), transfer_encoder(recoding.new)

    def feed(self, octets: bytes) -> bytes:
        """The encoded octets of the next piece."""
        return self._encoder.feed(self._decoder.feed(octets))

    def finish(self) -> bytes:
        """The last encoded octets."""
        return self._encoder.feed(self._decoder.finish()) + self._encoder.finish()


Conversion = list[Copy | Header | Recoding]
"""The steps that make the result, in order."""


def has_long_line(octets: bytes, start: int = 0) -> bool:
    """Whether a line from `start` on has more than 998 octets without its CRLF."""
    whole = LONGEST_LINE + 2
    while len(octets) - start > LONGEST_LINE:
        end = octets.rfind(b"\n", start, start + whole) + 1
        if not end:
            return True
        start = end
    return False


@dataclass(slots=True)
class _Stretch:
    """Adjacent octets of one kind: the header or the body of `part`, or octets of a multipart outside of its parts."""

    start: int
    part: Part
    kind: str  # "header", "body" or "between"
    eight_bit: bool = False
    long_line: bool = False
    since_line_end: int = 0


class Survey:
    """The first pass: what each part consists of. Feed it the whole content in order, in pieces of any size."""

    def __init__(self, tree: Part) -> None:
        self._tree = tree
        self._stretches: list[_Stretch] = []
        self._at = 0
        self._utf_8: codecs.IncrementalDecoder | None = None  # of a text that declares nothing, as long as it is valid
        if not tree.children and not tree.content.get("type"):
            self._utf_8 = codecs.getincrementaldecoder("utf-8")()
        self._lay(tree)
        self._starts = [stretch.start for stretch in self._stretches]

    def feed(self, octets: bytes) -> None:
        """Take the next octets of the content."""
        at, end = self._at, self._at + len(octets)
        index = bisect_right(self._starts, at) - 1
        while at < end:
            index += 1
            stop = min(end, self._starts[index]) if index < len(self._starts) else end
            if stop > at:
                self._note(self._stretches[index - 1], octets[at - self._at : stop - self._at])
            at = stop
        self._at = end

    def conversion(self) -> Conversion:
        """The steps of the conversion, once all octets were fed. Raises NotConvertible."""
        bodies: dict[int, _Stretch] = {}
        for stretch in self._stretches:
            if stretch.kind == "body":
                bodies[id(stretch.part)] = stretch
            elif self._needs(stretch) and (stretch.kind == "between" or stretch.part is not self._tree):
                raise NotConvertible(
                    "the header of a part is not ASCII" if stretch.kind == "header" else "octets belong to no part"
                )
        steps: Conversion = []
        self._convert(self._tree, True, bodies, steps)
        return _joined(steps)

    # ------------------------------------------------------------------------------------------------------------------

    def _lay(self, part: Part) -> None:
        """Add the stretches of a part in the order of their octets."""
        self._add(part.header_start, part, "header")
        self._add(part.body_start, part, "body" if _is_leaf(part) else "between")
        if not _is_leaf(part):
            for child in part.children:
                self._lay(child)
                self._add(child.body_end, part, "between")

    def _add(self, start: int, part: Part, kind: str) -> None:
        self._stretches.append(_Stretch(start, part, kind))

    @staticmethod
    def _needs(stretch: _Stretch) -> bool:
        return stretch.eight_bit or stretch.long_line

    def _note(self, stretch: _Stretch, octets: bytes) -> None:
        if not octets.isascii():
            stretch.eight_bit = True
        if stretch.kind != "body":
            return
        if self._utf_8 is not None:
            try:
                self._utf_8.decode(octets)
            except UnicodeDecodeError:
                self._utf_8 = None
        if stretch.long_line:
            return
        first, last = octets.find(b"\n") + 1, octets.rfind(b"\n") + 1
        run = stretch.since_line_end + (first or len(octets))
        line_end = 2 if first else 1 if octets.endswith(b"\r") else 0
        stretch.long_line = run - line_end > LONGEST_LINE or (first > 0 and has_long_line(octets, first))
        stretch.since_line_end = len(octets) - last if last else run

    def _convert(self, part: Part, is_message: bool, bodies: dict[int, _Stretch], steps: Conversion) -> bool:
        """Add the steps of a part; returns whether it changes."""
        here = len(steps)
        steps.append(Copy(part.header_start, part.body_start))
        if _is_leaf(part):
            stretch = bodies.get(id(part))
            if stretch is None or not self._needs(stretch):
                steps.append(Copy(part.body_start, part.body_end))
                return False
            new = _encoding_for(part)
            steps[here] = self._header(part, new, is_message)
            steps.append(Recoding(part.body_start, part.body_end, part.encoding, new))
            return True
        at, changed = part.body_start, False
        for child in part.children:
            steps.append(Copy(at, child.header_start))
            changed |= self._convert(child, part.is_message, bodies, steps)
            at = child.body_end
        steps.append(Copy(at, part.body_end))
        if changed and part.media_type == "multipart/signed":
            raise NotConvertible("a part is signed as it is (multipart/signed)")
        if changed and (is_message or part.encoding in ("8bit", "binary")):
            steps[here] = self._header(part, "7bit", is_message)
        return changed

    def _header(self, part: Part, encoding: str, is_message: bool) -> Header:
        octets = part.body_start - part.header_start
        if octets < 2:
            raise NotConvertible("a part has no header")
        if octets > DEFAULT_LIMITS.header_octets:
            raise NotConvertible(f"a header has more than {DEFAULT_LIMITS.header_octets} octets")
        charset = ""
        if part is self._tree and not part.children and not part.content.get("type"):
            charset = "utf-8" if self._is_utf_8() else "unknown-8bit"  # RFC 1428 3
        return Header(part.header_start, part.body_start, encoding, is_message, charset)

    def _is_utf_8(self) -> bool:
        return self._utf_8 is not None and not self._utf_8.getstate()[0]


def _is_leaf(part: Part) -> bool:
    """Whether a part is converted as a whole: a part without parts, or an embedded message that may be encoded."""
    return not part.children or part.media_type == "message/global"


def _encoding_for(part: Part) -> str:
    """The encoding of a body that is converted. Raises NotConvertible."""
    declared = part.content.get("type", "").lstrip().lower()
    kind = part.media_type
    if declared.startswith(("multipart/", "message/")) and kind == "application/octet-stream":
        raise NotConvertible("a part is nested too deep")
    if kind.startswith("message/") and kind not in _ENCODABLE_MESSAGES:
        raise NotConvertible(f"a part of the type {kind} cannot be encoded")
    if part.encoding not in _OWN_ENCODING:
        raise NotConvertible(f"the encoding {part.encoding[:40]} is unknown")
    if part.encoding not in _IDENTITY:
        return part.encoding
    return "quoted-printable" if part.fields.is_text else "base64"


def _joined(steps: Conversion) -> Conversion:
    """The steps with adjacent copies as one."""
    joined: Conversion = []
    for step in steps:
        last = joined[-1] if joined else None
        if isinstance(step, Copy) and step.start >= step.end:
            continue
        if isinstance(step, Copy) and isinstance(last, Copy) and last.end == step.start:
            joined[-1] = Copy(last.start, step.end)
        else:
            joined.append(step)
    return joined


def carried_out(steps: Conversion, read: Callable[[int, int], Iterator[bytes]]) -> Iterator[bytes]:
    """The result in pieces; `read(start, end)` gives the octets of the content in pieces."""
    for step in steps:
        match step:
            case Copy(start, end):
                yield from read(start, end)
            case Header(start, end):
                yield step.apply(b"".join(read(start, end)))
            case Recoding(start, end):
                recoder = Recoder(step)
                for piece in read(start, end):
                    yield recoder.feed(piece)
                yield recoder.finish()


def seven_bit(content: bytes, tree: Part) -> bytes:
    """The whole content in 7 bits. Raises NotConvertible."""
    survey = Survey(tree)
    survey.feed(content)
    return b"".join(carried_out(survey.conversion(), lambda start, end: iter((content[start:end],))))
