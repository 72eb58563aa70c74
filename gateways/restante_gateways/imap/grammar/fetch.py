"""FETCH items and their parser: facts, sections, partials (RFC 3501 6.4.5, 9). *Pure.*"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.parser import ParseError, Parser


class SectionText(enum.Enum):
    """The piece of a part in a section (RFC 3501 6.4.5 `section-text`)."""

    WHOLE = b""
    HEADER = b"HEADER"
    HEADER_FIELDS = b"HEADER.FIELDS"
    HEADER_FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """A part by its numbers, and a piece of it: `[1.2.HEADER.FIELDS (TO CC)]`. No numbers: the message itself."""

    part: tuple[int, ...] = ()
    text: SectionText = SectionText.WHOLE
    fields: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The section with its brackets, for the FETCH response."""
        pieces = [b"%d" % number for number in self.part]
        if self.text is not SectionText.WHOLE:
            pieces.append(self.text.value)
        spelled = b".".join(pieces)
        if self.text in (SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT):
            spelled += b" (" + b" ".join(map(encoder.astring, self.fields)) + b")"
        return b"[" + spelled + b"]"


@dataclass(frozen=True, slots=True)
class Partial:
    """A range of octets of a section: `<offset.count>`."""

    offset: int
    count: int


class FetchFact(enum.Enum):
    """Fetch items without message octets."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"


class Legacy(enum.Enum):
    """The old names of three sections; the response uses the requested name."""

    RFC822 = b"RFC822"
    RFC822_HEADER = b"RFC822.HEADER"
    RFC822_TEXT = b"RFC822.TEXT"


@dataclass(frozen=True, slots=True)
class FetchSection:
    """Octets of a message: BODY[...], BODY.PEEK[...] and the RFC822 names."""

    section: Section
    partial: Partial | None = None
    peek: bool = False
    legacy: Legacy | None = None

    @property
    def sets_seen(self) -> bool:
        """Whether reading it marks the message \\Seen (RFC 3501 6.4.5; RFC822.HEADER does not)."""
        return not self.peek and self.legacy is not Legacy.RFC822_HEADER

    def label(self) -> bytes:
        """The item's name in the response: without PEEK, and with only the offset of a partial (RFC 3501 6.4.5)."""
        if self.legacy is not None:
            return self.legacy.value
        origin = b"<%d>" % self.partial.offset if self.partial else b""
        return b"BODY" + self.section.encode() + origin


FetchItem: TypeAlias = FetchFact | FetchSection

_BY_VIEW = frozenset((FetchFact.FLAGS, FetchFact.UID, FetchFact.MODSEQ))
_MOST_KEPT = 512  # octets of items whose Layout is kept


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a FETCH response in order: facts, then sections, regardless of the requested order."""

    facts: tuple[FetchFact, ...]
    sections: tuple[FetchSection, ...]
    labels: tuple[bytes, ...]  # of the sections
    by_view: bool  # every part is known to the session's view
    sets_seen: bool  # see FetchSection

    @classmethod
    def of(cls, items: Collection[FetchItem]) -> Layout:
        """The Layout of requested items."""
        facts = tuple(fact for fact in FetchFact if fact in items)
        sections = tuple(item for item in items if isinstance(item, FetchSection))
        return cls(
            facts,
            sections,
            tuple(section.label() for section in sections),
            not sections and _BY_VIEW.issuperset(facts),
            any(section.sets_seen for section in sections),
        )

    def with_fact(self, fact: FetchFact) -> Layout:
        """The same with one more fact."""
        return self if fact in self.facts else Layout.of((*self.facts, fact, *self.sections))


MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"ALL": (FetchFact.FLAGS, FetchFact.INTERNALDATE, FetchFact.SIZE, FetchFact.ENVELOPE),
    b"FAST": (FetchFact.FLAGS, FetchFact.INTERNALDATE, FetchFact.SIZE),
    b"FULL": (FetchFact.FLAGS, FetchFact.INTERNALDATE, FetchFact.SIZE, FetchFact.ENVELOPE, FetchFact.BODY),
}

_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_TEXT = re.compile(rb"[A-Za-z.]+")
_MAX_PARTS = 100  # nesting levels in a section
_FACTS = {fact.value: fact for fact in FetchFact}
_LEGACY = {
    Legacy.RFC822.value: FetchSection(Section(), legacy=Legacy.RFC822),
    Legacy.RFC822_HEADER.value: FetchSection(Section(text=SectionText.HEADER), legacy=Legacy.RFC822_HEADER),
    Legacy.RFC822_TEXT.value: FetchSection(Section(text=SectionText.TEXT), legacy=Legacy.RFC822_TEXT),
}
_TEXTS = {text.value: text for text in SectionText if text.value}


def fetch_layout(p: Parser) -> Layout:
    """Parse items, as `fetch_items`; with UID in a command with that prefix (RFC 3501 6.4.8).

    Clients ask for the same few combinations again and again, so those of short commands are kept.
    """
    text = p.octets[p.at :]
    layout, length = (_layout if len(text) > _MOST_KEPT else _kept_layout)(text, p.uid)
    p.at += length
    return layout


def _layout(text: bytes, uid: bool) -> tuple[Layout, int]:
    """The Layout of the items at the beginning of a text, and their length."""
    p = Parser(text)
    layout = Layout.of(fetch_items(p))
    return layout.with_fact(FetchFact.UID) if uid else layout, p.at


_kept_layout = lru_cache(maxsize=256)(_layout)


def fetch_items(p: Parser) -> tuple[FetchItem, ...]:
    """Parse a macro, one item, or a list of items; duplicates are dropped, the order is kept (RFC 3501 6.4.5)."""
    if not p.accept(b"("):
        name = p.match(_ITEM, "fetch item")[0].upper()
        return MACROS[name] if name in MACROS else (_item(p, name),)
    items: dict[FetchItem, None] = {}
    while not items or not p.accept(b")"):
        if items:
            p.sp()
        items[_item(p, p.match(_ITEM, "fetch item")[0].upper())] = None
    return tuple(items)


def _item(p: Parser, name: bytes) -> FetchItem:
    if name in (b"BODY", b"BODY.PEEK") and p.accept(b"["):
        return FetchSection(_section(p), _partial(p), peek=name == b"BODY.PEEK")
    if name in _FACTS:
        return _FACTS[name]
    if name in _LEGACY:
        return _LEGACY[name]
    raise ParseError("unknown fetch item")


def _section(p: Parser) -> Section:
    """Parse a section after its opening bracket, up to and including the closing one."""
    part: tuple[int, ...] = ()
    if found := _PART.match(p.octets, p.at):
        p.at = found.end()
        part = tuple(map(int, found[0].split(b".")))
        if len(part) > _MAX_PARTS:
            raise ParseError("section number nested too deeply")
        if p.accept(b"]"):
            return Section(part)
        p.expect(b".")
    elif p.accept(b"]"):
        return Section()
    text = _TEXTS.get(p.match(_TEXT, "section")[0].upper())
    if text is None or (text is SectionText.MIME and not part):
        raise ParseError("unknown section")
    fields: tuple[bytes, ...] = ()
    if text in (SectionText.HEADER_FIELDS, SectionText.HEADER_FIELDS_NOT):
        fields = _field_names(p.sp())
    p.expect(b"]")
    return Section(part, text, fields)


def _field_names(p: Parser) -> tuple[bytes, ...]:
    names: list[bytes] = []
    p.expect(b"(")
    while not names or not p.accept(b")"):
        if names:
            p.sp()
        names.append(p.astring())
    return tuple(names)


def _partial(p: Parser) -> Partial | None:
    if not p.accept(b"<"):
        return None
    offset = p.number()
    p.expect(b".")
    count = p.nz_number()
    p.expect(b">")
    return Partial(offset, count)
