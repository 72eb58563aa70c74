"""Conversion of search keys to the contract's restrictions."""

from __future__ import annotations

import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from restante.v1 import search_pb2
from restante.v1.search_pb2 import Restriction
from restante_gateways.imap.core import convert
from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.grammar.search_keys import (
    Comparison,
    DateKind,
    SearchAnd,
    SearchDate,
    SearchFlag,
    SearchHeader,
    SearchKey,
    SearchModSeq,
    SearchNot,
    SearchOr,
    SearchSize,
    SearchText,
    SearchUids,
    TextScope,
)
from restante_gateways.imap.values import Place

_TEXT_FIELDS = {
    "SUBJECT": search_pb2.TEXT_FIELD_SUBJECT,
    "FROM": search_pb2.TEXT_FIELD_FROM,
    "TO": search_pb2.TEXT_FIELD_TO,
    "CC": search_pb2.TEXT_FIELD_CC,
    "BCC": search_pb2.TEXT_FIELD_BCC,
}
_SCOPES = {TextScope.BODY: search_pb2.TEXT_FIELD_BODY, TextScope.TEXT: search_pb2.TEXT_FIELD_ANY}


def restriction(place: Place, key: SearchKey) -> Restriction:
    """The restriction of a key in a folder. Sequence sets in the key must be SearchUids. Raises TypeError."""
    match key:
        case SearchAnd(keys):
            return Restriction(all_of=_list(place, *keys))
        case SearchOr():
            return Restriction(any_of=_list(place, *_alternatives(key)))
        case SearchNot(inner):
            return Restriction(negation=restriction(place, inner))
        case SearchFlag(SystemFlag() as flag):
            return Restriction(flags=search_pb2.FlagRestriction(mask=int(flag), value=int(flag)))
        case SearchFlag(str(keyword)):
            return Restriction(keyword=search_pb2.KeywordRestriction(keyword=keyword))
        case SearchDate():
            return Restriction(time=_time(key))
        case SearchSize(larger, octets):
            comparison = search_pb2.COMPARISON_GREATER if larger else search_pb2.COMPARISON_LESS
            return Restriction(compare=_compare(search_pb2.COMPARE_PROPERTY_SIZE_OCTETS, comparison, octets))
        case SearchHeader(field, text):
            if text and field.upper() in _TEXT_FIELDS:
                return Restriction(text=search_pb2.TextRestriction(field=_TEXT_FIELDS[field.upper()], value=text))
            return Restriction(header=search_pb2.HeaderRestriction(name=field, value=text))
        case SearchText(scope, text):
            return Restriction(text=search_pb2.TextRestriction(field=_SCOPES[scope], value=text))
        case SearchModSeq(change_number):
            at_least = search_pb2.COMPARISON_AT_LEAST
            return Restriction(compare=_compare(search_pb2.COMPARE_PROPERTY_CHANGE_NUMBER, at_least, change_number))
        case SearchUids(()):
            return Restriction(any_of=search_pb2.RestrictionList())  # an empty OR is false
        case SearchUids(uids):
            return Restriction(uids=convert.uid_set(place, uids))
    raise TypeError(f"no restriction for {key!r}")


def _alternatives(key: SearchKey) -> list[SearchKey]:
    """The alternatives of nested ORs as a flat list: clients nest more of them than the core allows."""
    found, pending = list[SearchKey](), [key]
    while pending:
        part = pending.pop()
        if isinstance(part, SearchOr):
            pending += [part.second, part.first]
        else:
            found.append(part)
    return found


def _list(place: Place, *keys: SearchKey) -> search_pb2.RestrictionList:
    return search_pb2.RestrictionList(restrictions=[restriction(place, key) for key in keys])


def _compare(
    compared: search_pb2.CompareProperty.ValueType, comparison: search_pb2.Comparison.ValueType, value: int
) -> search_pb2.CompareRestriction:
    return search_pb2.CompareRestriction(property=compared, comparison=comparison, value=value)


def _time(key: SearchDate) -> search_pb2.TimeRestriction:
    """The restriction of a date key, which ignores time and zone (RFC 3501 6.4.4)."""
    sent = key.kind is DateKind.SENT
    wanted = search_pb2.TimeRestriction(
        property=search_pb2.TIME_PROPERTY_SENT_AT if sent else search_pb2.TIME_PROPERTY_RECEIVED_AT, local_date=True
    )
    if key.comparison is not Comparison.BEFORE:
        wanted.not_before.CopyFrom(_midnight(key.day))
    if key.comparison is Comparison.BEFORE:
        wanted.before.CopyFrom(_midnight(key.day))
    elif key.comparison is Comparison.ON and key.day < datetime.date.max:
        wanted.before.CopyFrom(_midnight(key.day + datetime.timedelta(days=1)))
    return wanted


def _midnight(day: datetime.date) -> Timestamp:
    at = Timestamp()
    at.FromDatetime(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC))
    return at
