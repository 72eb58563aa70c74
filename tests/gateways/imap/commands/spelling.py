"""Parsed values in a spelling that a client might send."""

from __future__ import annotations

from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.fetch import FetchFact, FetchItem
from restante_gateways.imap.grammar.search_keys import (
    SearchAnd,
    SearchDate,
    SearchFlag,
    SearchHeader,
    SearchKey,
    SearchMessages,
    SearchModSeq,
    SearchNot,
    SearchOr,
    SearchRecent,
    SearchSize,
    SearchText,
)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def encode_fetch_item(item: FetchItem) -> bytes:
    """Encode an item of a FETCH."""
    if isinstance(item, FetchFact):
        return item.value
    if item.legacy is not None:
        return item.legacy.value
    partial = b"<%d.%d>" % (item.partial.offset, item.partial.count) if item.partial else b""
    return (b"BODY.PEEK" if item.peek else b"BODY") + item.section.encode() + partial


def encode_key(key: SearchKey) -> bytes:
    """Encode a key of a SEARCH with CHARSET UTF-8."""
    match key:
        case SearchAnd(()):
            return b"ALL"
        case SearchAnd(keys):
            return b"(" + b" ".join(map(encode_key, keys)) + b")"
        case SearchOr(first, second):
            return b"OR " + encode_key(first) + b" " + encode_key(second)
        case SearchNot(inner):
            return b"NOT " + encode_key(inner)
        case SearchMessages(messages, uid):
            return (b"UID " if uid else b"") + messages.encode()
        case SearchFlag(flag):
            if isinstance(flag, str):
                return b"KEYWORD " + flag.encode("ascii")
            assert flag.name is not None
            return flag.name.encode("ascii")
        case SearchRecent():
            return b"RECENT"
        case SearchDate(kind, comparison, day):
            spelled = f"{kind.value}{comparison.value} {day.day}-{_MONTHS[day.month - 1]}-{day.year:04d}"
            return spelled.encode("ascii")
        case SearchSize(larger, octets):
            return (b"LARGER %d" if larger else b"SMALLER %d") % octets
        case SearchHeader(field, text):
            return b"HEADER " + encoder.astring(field.encode("ascii")) + b" " + encoder.string(text.encode("utf-8"))
        case SearchText(scope, text):
            return scope.value + b" " + encoder.string(text.encode("utf-8"))
        case SearchModSeq(change_number):
            return b"MODSEQ %d" % change_number
    raise TypeError(f"no client writes {key!r}")
