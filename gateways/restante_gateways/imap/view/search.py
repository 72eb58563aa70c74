"""Evaluation of search keys on a session's view, and translation of the others for the core. *Pure.*"""

from __future__ import annotations

from restante_gateways.imap.grammar import sets
from restante_gateways.imap.grammar.search_keys import (
    SearchAnd,
    SearchFlag,
    SearchKey,
    SearchMessages,
    SearchModSeq,
    SearchNot,
    SearchOr,
    SearchRecent,
    SearchUids,
)
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.view.session import SessionView


def is_local(key: SearchKey) -> bool:
    """Whether the view can evaluate the key, without the core."""
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


def may_change(key: SearchKey) -> bool:
    """Whether other sessions may change the matches of a local key. Numbers and \\Recent cannot change."""
    return not isinstance(key, SearchMessages | SearchRecent)


def everything(view: SessionView) -> list[Span]:
    """Positions of all messages that are still in the folder."""
    return view.still_there([(0, view.count)] if view.count else [])


def evaluate(view: SessionView, key: SearchKey) -> list[Span]:
    """Positions that match a local key. A nonexistent sequence number matches nothing (RFC 9051 6.4.4).

    Raises TypeError for a key that only the core can evaluate.
    """
    match key:
        case SearchAnd(keys):
            found = everything(view)
            for part in keys:
                found = sets.intersect(found, evaluate(view, part))
            return found
        case SearchOr(first, second):
            return sets.unite(evaluate(view, first), evaluate(view, second))
        case SearchNot(inner):
            return sets.without(everything(view), evaluate(view, inner))
        case SearchMessages(messages, uid):
            return view.known_spans(messages, uid)
        case SearchFlag(flag):
            return view.with_flag(flag, everything(view))
        case SearchRecent():
            return sets.positions(view.uids, view.count, view.recent)
        case SearchModSeq(change_number):
            return view.changed_since(everything(view), change_number - 1)
    raise TypeError(f"{key!r} is for the core")


def by_uid(view: SessionView, key: SearchKey) -> SearchKey:
    """The key with UIDs in place of sequence sets and \\Recent, which only this session's view knows."""
    match key:
        case SearchAnd(keys):
            return SearchAnd(tuple(by_uid(view, part) for part in keys))
        case SearchOr(first, second):
            return SearchOr(by_uid(view, first), by_uid(view, second))
        case SearchNot(inner):
            return SearchNot(by_uid(view, inner))
        case SearchMessages() | SearchRecent():
            return SearchUids(tuple(view.uid_ranges(evaluate(view, key))))
    return key
