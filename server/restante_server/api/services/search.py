"""SearchMessages and QueryMessages: each is a series of short reads, so that a long scan holds no snapshot."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from restante.errors import InvalidArgument, InvalidPageToken, ResultTooLarge, TooComplex
from restante.v1 import methods
from restante.v1 import search_pb2 as v1
from restante.v1.message_pb2 import (
    MessagePart,
    MessageRows,
    QueryMessagesRequest,
    QueryMessagesResponse,
    SearchMessagesRequest,
    SearchMessagesResponse,
)
from restante_mail.idset import EMPTY, IdSet
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers, every
from restante_server.api.services import convert, message_shapes, pages, part_trees, scans
from restante_server.api.services.message_rows import Ask, message_rows
from restante_server.api.services.message_shapes import Shape
from restante_server.api.services.restrictions import restriction
from restante_server.api.services.sealed import seal, unseal
from restante_server.api.services.violations import collected
from restante_server.directory.keys import OVERHEAD_OCTETS
from restante_server.directory.rights import Claim, Place
from restante_server.store import rows, search
from restante_server.store.restriction import EVERYTHING, Restriction
from restante_server.store.search import Key, Query, Step
from restante_server.store.selection import Selection

handlers = Handlers()

MOST_SORT_KEYS: Final = 4
ROWS_AT_ONCE: Final = 100  # read in one statement, so that a page that ends early leaves few rows unused
LATEST_FIRST: Final = (("received_at", True),)
PAGE_TOKEN: Final = b"page of messages"
SHORT_TEXT: Final = 40  # characters of a sort key's text; four such texts fit the usual room for a token


@handlers.direct(methods.SEARCH_MESSAGES, rule=access.MAIL_SESSION, reads=every)
async def search_messages(call: Call, request: SearchMessagesRequest) -> SearchMessagesResponse:
    """See MessageService.SearchMessages. A long scan is a series of short steps within the call's deadline."""
    claim = call.claim(request.mailbox_id, request.folder_id)
    found = await scans.matches(call, claim, restriction(request.restriction))
    with_ids = request.with_message_ids or not request.folder_id
    return SearchMessagesResponse(
        uids=convert.id_ranges(IdSet.from_ascending(found.keys)) if request.folder_id else [],
        change_number=found.horizon.change_number,
        highest_match_change_number=found.highest_change_number,
        message_ids=convert.runs(found.message_ids) if with_ids else [],
    )


@handlers.direct(methods.QUERY_MESSAGES, rule=access.MAIL_SESSION, reads=every)
async def query_messages(call: Call, request: QueryMessagesRequest) -> QueryMessagesResponse:
    """See MessageService.QueryMessages. A page begins after the last message of the page before, despite new mail."""
    claim = call.claim(request.mailbox_id, request.folder_id)
    query, ask, size = _question(claim, request)
    mark = _mark(claim.mailbox_id, request)
    after = await _open_token(call, mark, request.page_token) if request.page_token else None
    directory = call.core.contents.directory

    def further(tx: Connection, *, after: Key | None, most: int) -> Step:
        return search.page(tx, claim.place(tx), directory, query, after, most)

    hits: list[Sequence[Any]] = []
    width = 0
    with scans.under_way(call, query):
        while True:
            most = size + 1 - len(hits)
            step = await scans.step(call, query, partial(further, after=after, most=most), most)
            hits += step.hits
            width, after = step.width, step.after
            if after is None or len(hits) > size:
                break
    wanted = [hit[width] for hit in hits[:size]]
    limit = call.result_octets - _token_room([tuple(hit[:width]) for hit in hits[:size]])
    read_rows = partial(_rows, ask=ask, directory=directory, message_ids=wanted, limit_octets=limit)
    found, shown = await call.core.db.read(read_rows, deadline=call.deadline)
    answer = QueryMessagesResponse(rows=found)
    if len(hits) > shown:
        answer.next_page_token = _seal_token(call, mark, tuple(hits[shown - 1][:width]))
    return answer


def _question(claim: Claim, request: QueryMessagesRequest) -> tuple[Query, Ask, int]:
    """The query, the columns and the page size. Raises the first error with all bad fields."""
    condition: Restriction = EVERYTHING
    sort: tuple[tuple[str, bool], ...] = LATEST_FIRST
    ask, size = Ask(claim.at(0), Selection(None, EMPTY), message_shapes.NOTHING), 0
    with collected() as bad:
        with bad.noting("restriction"):
            condition = restriction(request.restriction)
        with bad.noting("sort"):
            sort = _sort(request.sort)
        with bad.noting("columns"):
            ask = replace(ask, shape=Shape.of(request.columns, ()))
        with bad.noting("page_size"):
            size = pages.size(request.page_size)
    return Query(condition, sort), ask, size


def _rows(
    tx: Connection, *, ask: Ask, directory: Path, message_ids: Sequence[int], limit_octets: int
) -> tuple[MessageRows, int]:
    """The rows of as many of these messages as fit, in this order, and the number of messages that they stand for.

    Messages that are gone meanwhile have no row. Raises ResultTooLarge when the first row alone is too large.
    """
    place, names = ask.claim.place(tx), ask.shape.names
    columns: dict[str, list[Any]] = {name: [] for name in ("message_id", "uid", *names)}

    def first(count: int) -> MessageRows:
        return message_rows({name: column[:count] for name, column in columns.items()}, names)

    octets, read = 0, 0
    while read < len(message_ids) and octets <= limit_octets:
        some = message_ids[read : read + ROWS_AT_ONCE]
        cells = _cells(tx, place, some, ask.shape.stored_names)
        if "parts" in names:
            _add_trees(tx, directory, cells, limit_octets)
        octets += message_rows(cells, names).ByteSize()
        read += len(some)
        for name, column in columns.items():
            column += cells[name]
    found = first(len(columns["message_id"]))
    if found.ByteSize() <= limit_octets:
        return found, read
    fitting = _fitting(columns, names, limit_octets)
    if not fitting:
        raise ResultTooLarge(rpc="MessageService/StreamMessages", limit_octets=limit_octets)
    return first(fitting), message_ids.index(columns["message_id"][fitting - 1]) + 1


def _fitting(columns: dict[str, list[Any]], names: frozenset[str], limit_octets: int) -> int:
    """The number of rows from the first on that fit. Each is measured alone, as a little more."""
    octets, count = 0, 0
    while count < len(columns["message_id"]):
        row = {name: column[count : count + 1] for name, column in columns.items()}
        octets += message_rows(row, names).ByteSize()
        if octets > limit_octets:
            break
        count += 1
    return count


def _cells(tx: Connection, place: Place, message_ids: Sequence[int], names: frozenset[str]) -> dict[str, list[Any]]:
    """The columns of those messages that exist, in this order."""
    selection = Selection(None, IdSet.of(message_ids))
    columns: dict[str, list[Any]] = {name: [] for name in ("message_id", "uid", *names)}
    after: int | None = 0
    while after is not None:
        page = rows.page(tx, place, selection, names, after=after, most=len(message_ids))
        for name, cells in columns.items():
            cells += page.columns[name]
        after = page.after
    position = {message_id: at for at, message_id in enumerate(columns["message_id"])}
    order = [position[message_id] for message_id in message_ids if message_id in position]
    return {name: [cells[at] for at in order] for name, cells in columns.items()}


def _add_trees(tx: Connection, directory: Path, cells: dict[str, list[Any]], limit_octets: int) -> None:
    """Add the column of part trees. Ends all columns behind the tree with which they pass the limit."""
    made: list[MessagePart] = []
    octets = 0
    for tree in part_trees.trees(tx, directory, cells["content_id"]):
        made.append(tree)
        octets += tree.ByteSize()
        if octets > limit_octets:
            break
    for column in cells.values():
        del column[len(made) :]
    cells["parts"] = made


def _sort(keys: Sequence[v1.SortKey]) -> tuple[tuple[str, bool], ...]:
    if len(keys) > MOST_SORT_KEYS:
        raise TooComplex(limit=MOST_SORT_KEYS, value=len(keys))
    names = {number: name.removeprefix("SORT_PROPERTY_").lower() for name, number in v1.SortProperty.items() if number}
    if any(key.property not in names for key in keys):
        raise InvalidArgument(field="sort", problem="must be a known value other than UNSPECIFIED")
    return tuple((names[key.property], key.descending) for key in keys) or LATEST_FIRST


def _mark(mailbox_id: int, request: QueryMessagesRequest) -> bytes:
    """A digest of the query that a page token belongs to, without columns and page size."""
    asked = QueryMessagesRequest(mailbox_id=mailbox_id, folder_id=request.folder_id, sort=request.sort)
    asked.restriction.CopyFrom(request.restriction)
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()[:16]


def _token_room(keys: Sequence[Key]) -> int:
    """The octets to leave for the token of a page that ends at one of these keys, which may have long subjects."""
    with_text = [key for key in keys if any(isinstance(part, str) and len(part) > SHORT_TEXT for part in key)]
    longest = max((len(_plain(key)) for key in with_text), default=0)
    return max(pages.TOKEN_OCTETS, 4 * (longest + OVERHEAD_OCTETS) // 3 + pages.FRAME_OCTETS)


def _plain(key: Key) -> bytes:
    return json.dumps(key, separators=(",", ":")).encode()


def _seal_token(call: Call, mark: bytes, key: Key) -> str:
    plain = _plain(key)
    return base64.urlsafe_b64encode(seal(call, PAGE_TOKEN + mark, plain)).decode().rstrip("=")


async def _open_token(call: Call, mark: bytes, token: str) -> Key:
    """The key in a page token. Raises InvalidPageToken for a token of another query."""
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return tuple(json.loads(await unseal(call, PAGE_TOKEN + mark, sealed)))
    except (binascii.Error, ValueError) as error:
        raise InvalidPageToken from error
