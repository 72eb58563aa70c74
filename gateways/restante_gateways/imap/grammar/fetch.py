"""What FETCH asks for: items, sections, partials (RFC 3501 6.4.5, 9 `fetch-att`). *Pure.*"""

from __future__ import annotations

import re

from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.values import (
    MACROS,
    FetchFact,
    FetchItem,
    FetchSection,
    Legacy,
    Partial,
    Section,
    SectionText,
)

_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*")
_TEXT = re.compile(rb"[A-Za-z.]+")
_MAX_PARTS = 100  # levels of nesting a section may name
_FACTS = {fact.value: fact for fact in FetchFact}
_LEGACY = {
    Legacy.RFC822.value: FetchSection(Section(), legacy=Legacy.RFC822),
    Legacy.RFC822_HEADER.value: FetchSection(Section(text=SectionText.HEADER), legacy=Legacy.RFC822_HEADER),
    Legacy.RFC822_TEXT.value: FetchSection(Section(text=SectionText.TEXT), legacy=Legacy.RFC822_TEXT),
}
_TEXTS = {text.value: text for text in SectionText if text.value}


def fetch_items(p: Parser) -> tuple[FetchItem, ...]:
    """A macro, one item, or a list of items; each item once, in the order asked (RFC 3501 6.4.5)."""
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
    raise ParseError("no such fetch item")


def _section(p: Parser) -> Section:
    """What stands behind the bracket, up to the closing one."""
    part: tuple[int, ...] = ()
    if found := _PART.match(p.octets, p.at):
        p.at = found.end()
        part = tuple(map(int, found[0].split(b".")))
        if len(part) > _MAX_PARTS:
            raise ParseError("section too deep")
        if p.accept(b"]"):
            return Section(part)
        p.expect(b".")
    elif p.accept(b"]"):
        return Section()
    text = _TEXTS.get(p.match(_TEXT, "section")[0].upper())
    if text is None or (text is SectionText.MIME and not part):
        raise ParseError("no such section")
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
