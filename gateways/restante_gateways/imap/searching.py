"""Evaluating search keys: on the view what it can tell, the rest as one restriction in the core."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from restante import errors
from restante.v1 import message_pb2, methods, search_pb2, types_pb2
from restante.v1.search_pb2 import Restriction
from restante_gateways.imap.errors import Refusal
from restante_gateways.imap.grammar import sets
from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.grammar.responses import NO, OK
from restante_gateways.imap.grammar.search_keys import (
    Comparison,
    DateKind,
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
    TextScope,
)
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.view.session import SessionView

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

_TEXT_FIELDS = {
    "SUBJECT": search_pb2.TEXT_FIELD_SUBJECT,
    "FROM": search_pb2.TEXT_FIELD_FROM,
    "TO": search_pb2.TEXT_FIELD_TO,
    "CC": search_pb2.TEXT_FIELD_CC,
    "BCC": search_pb2.TEXT_FIELD_BCC,
}
_SECONDS = 60.0  # a search may take in the core; mail programs wait about as long
_GOES_ON = OK("Still searching.").encode()
_SCOPES = {TextScope.BODY: search_pb2.TEXT_FIELD_BODY, TextScope.TEXT: search_pb2.TEXT_FIELD_ANY}


async def search(s: Session, key: SearchKey) -> list[Span]:
    """Positions of the messages that match, ascending. A sequence number that does not exist matches nothing."""
    keys = key.keys if isinstance(key, SearchAnd) else (key,)
    local, remote = [part for part in keys if is_local(part)], [part for part in keys if not is_local(part)]
    if not remote:
        await s.catch_up()
    known = s.view.folder.change_number
    found = await _search(s, local, remote)
    if remote and any(map(_may_change, local)):
        await s.catch_up()
        if s.was_behind(known):
            found = await _search(s, local, remote)
    return found


async def _search(s: Session, local: list[SearchKey], remote: list[SearchKey]) -> list[Span]:
    """Search the messages that match the local keys for the others."""
    view = s.view
    found = everything = view.still_there([(0, view.count)] if view.count else [])
    for part in local:
        found = sets.intersect(found, evaluate(view, part))
    if not remote or not found:
        return found
    restrictions = [restriction(view, part) for part in remote]
    if found != everything:
        restrictions.insert(0, Restriction(ids=s.message_set(found)))
    whole = restrictions[0]
    if len(restrictions) > 1:
        whole = Restriction(all_of=search_pb2.RestrictionList(restrictions=restrictions))
    answer = await _ask(s, message_pb2.SearchMessagesRequest(folder_id=view.folder.folder_id, restriction=whole))
    hits = sets.positions(view.uids, view.count, ((run.first, run.last) for run in answer.uids))
    return sets.intersect(found, hits)


def _may_change(key: SearchKey) -> bool:
    """Whether others may change what a local key matches: not the numbers, nor what is recent to a session."""
    return not isinstance(key, SearchMessages | SearchRecent)


async def _ask(s: Session, request: message_pb2.SearchMessagesRequest) -> message_pb2.SearchMessagesResponse:
    """What the core finds. Raises Refusal for a search that takes too long, or is one too many of the account."""
    try:
        return await s.long_call(methods.SEARCH_MESSAGES, request, seconds=_SECONDS, sign=_GOES_ON)
    except errors.DeadlineExceeded:
        text = f"The search was stopped after {_SECONDS:.0f} seconds; search fewer messages, or for less."
        raise Refusal(NO(text, b"LIMIT")) from None
    except errors.TooManyOperations:
        raise Refusal(NO("Too many searches of this account are under way; try again later.", b"LIMIT")) from None


def is_local(key: SearchKey) -> bool:
    """Whether the view can tell, without the core."""
    match key:
        case SearchAnd(keys):
            return all(map(is_local, keys))
        case SearchOr(first, second):
            return is_local(first) and is_local(second)
        case SearchNot(inner):
            return is_local(inner)
        case SearchMessages() | SearchFlag() | SearchRecent() | SearchModSeq():
            return True
    return False


def evaluate(view: SessionView, key: SearchKey) -> list[Span]:
    """Positions that match a local key."""
    everything = view.still_there([(0, view.count)] if view.count else [])
    match key:
        case SearchAnd(keys):
            for part in keys:
                everything = sets.intersect(everything, evaluate(view, part))
            return everything
        case SearchOr(first, second):
            return sets.unite(evaluate(view, first), evaluate(view, second))
        case SearchNot(inner):
            return sets.without(everything, evaluate(view, inner))
        case SearchMessages(messages, uid):
            return view.known_spans(messages, uid)
        case SearchFlag(flag):
            return view.with_flag(flag, everything)
        case SearchRecent():
            return sets.positions(view.uids, view.count, view.recent)
        case SearchModSeq(change_number):
            return view.changed_since(everything, change_number - 1)
    raise TypeError(f"{key!r} is for the core")


def restriction(view: SessionView, key: SearchKey) -> Restriction:
    """The key as the core's restriction."""
    match key:
        case SearchAnd(keys):
            return Restriction(all_of=_list(view, *keys))
        case SearchOr():
            return Restriction(any_of=_list(view, *_alternatives(key)))
        case SearchNot(inner):
            return Restriction(negation=restriction(view, inner))
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
        case SearchMessages() | SearchRecent():
            ranges = view.uid_ranges(evaluate(view, key))
            if not ranges:
                return Restriction(any_of=search_pb2.RestrictionList())  # none of nothing: false
            return Restriction(ids=uid_set(view.folder.folder_id, ranges))
    raise TypeError(f"no restriction for {key!r}")


def _alternatives(key: SearchKey) -> list[SearchKey]:
    """What a chain of ORs offers, side by side: clients write one for many names, deeper than the core allows."""
    found, pending = list[SearchKey](), [key]
    while pending:
        part = pending.pop()
        if isinstance(part, SearchOr):
            pending += [part.second, part.first]
        else:
            found.append(part)
    return found


def uid_set(folder_id: int, ranges: list[sets.Range]) -> types_pb2.MessageSet:
    """UIDs of a folder, for a request."""
    runs = [types_pb2.IdRange(first=first, last=last) for first, last in ranges]
    return types_pb2.MessageSet(folder_id=folder_id, uids=runs)


def _list(view: SessionView, *keys: SearchKey) -> search_pb2.RestrictionList:
    return search_pb2.RestrictionList(restrictions=[restriction(view, key) for key in keys])


def _compare(
    compared: search_pb2.CompareProperty.ValueType, comparison: search_pb2.Comparison.ValueType, value: int
) -> search_pb2.CompareRestriction:
    return search_pb2.CompareRestriction(property=compared, comparison=comparison, value=value)


def _time(key: SearchDate) -> search_pb2.TimeRestriction:
    """A day as it is written, without time and zone (RFC 3501 6.4.4)."""
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
