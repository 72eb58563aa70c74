"""The sets of messages that requests name: UIDs of a folder, message ids, or all that match a restriction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from restante.errors import InvalidArgument
from restante.v1.message_pb2 import MatchingMessages, MessageSet
from restante.v1.types_pb2 import IdRange
from restante_mail.idset import EMPTY, IdSet
from restante_server.api.engine.call import Call
from restante_server.api.services import convert, scans
from restante_server.api.services.restrictions import restriction
from restante_server.directory.rights import Claim
from restante_server.store.restriction import AllOf, Compare, Comparison, Property, Restriction
from restante_server.store.selection import Listed, Selection

MOST_ROWS: Final = 5_000  # estimated for one operation


@dataclass(frozen=True, slots=True)
class Chosen:
    """The messages of a request. A write leaves those whose change number is above `limit` as they are."""

    selection: Selection
    limit: int | None = None
    below: int = 0  # of a restriction: the UID, or the message id, below which all messages are

    @property
    def rows(self) -> int:
        """The estimated number of rows that an operation touches."""
        return min(MOST_ROWS, len(self.selection.ids))


NOTHING: Final = Chosen(Selection(None, EMPTY))
Pending = Callable[[], Awaitable[Chosen]]
"""The evaluation of a restriction, which takes time. It touches nothing."""


def read(
    call: Call,
    claim: Claim,
    messages: MessageSet,
    *,
    only_deleted: bool = False,
    removed: bool = False,
    limit: int | None = None,
) -> Chosen | Pending:
    """The messages that a request names in a mailbox. Raises InvalidArgument, TooComplex."""
    if not messages.HasField("matching"):
        return Chosen(_named(messages, only_deleted, removed), limit)
    if removed:
        raise InvalidArgument(field="include_removed", problem="needs messages named by ids")
    matching = messages.matching
    condition = _within(matching, restriction(matching.restriction, "messages.matching.restriction"))
    return partial(_evaluate, call, claim.at(matching.folder_id), condition, only_deleted, limit)


def folder_id(messages: MessageSet) -> int:
    """The folder of a set; 0 if the set has message ids or spans all folders."""
    return messages.uids.folder_id or messages.matching.folder_id


def uids(messages: MessageSet, listed: Listed) -> list[IdRange]:
    """The UIDs of messages for an answer; none unless the request names one folder."""
    return convert.id_ranges(IdSet.from_ascending(listed.uids)) if folder_id(messages) else []


def _named(messages: MessageSet, only_deleted: bool, removed: bool) -> Selection:
    match messages.WhichOneof("messages"):
        case "ids":
            ids = convert.message_ids(messages.ids.message_ids, "messages.ids.message_ids")
            return Selection(None, ids, only_deleted, removed)
        case "uids":
            if removed:
                raise InvalidArgument(field="include_removed", problem="needs messages named by ids")
            found = convert.uid_set(messages.uids, "messages.uids")
            return replace(found, only_deleted=True) if only_deleted else found
        case _:
            raise InvalidArgument(field="messages", problem="must name messages by uids, ids or matching")


def _within(matching: MatchingMessages, condition: Restriction) -> Restriction:
    """The condition on messages between `above` and `below`. Neither counts for the depth of the client's tree."""
    key = Property.UID if matching.folder_id else Property.MESSAGE_ID
    parts = [condition]
    if matching.above:
        parts.append(Compare(key, Comparison.GREATER, matching.above))
    if matching.below:
        parts.append(Compare(key, Comparison.LESS, matching.below))
    return AllOf(tuple(parts)) if len(parts) > 1 else condition


async def _evaluate(call: Call, claim: Claim, condition: Restriction, only_deleted: bool, limit: int | None) -> Chosen:
    """The messages that match now. A write leaves those as they are that change after the first read of this scan.

    Raises as scans.matches.
    """
    found = await scans.matches(call, claim, condition)
    seen = found.horizon.change_number
    selection = Selection(claim.folder_id or None, IdSet.from_ascending(found.known_keys), only_deleted)
    return Chosen(selection, seen if limit is None else min(limit, seen), found.horizon.next_key)
