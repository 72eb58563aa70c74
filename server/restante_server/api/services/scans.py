"""Scans for SearchMessages, QueryMessages and sets of matching messages: series of short reads, so that a long scan
holds no snapshot. Between two reads the search threads examine the messages that the rows do not decide."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from restante_server.api.engine.call import Call
from restante_server.directory.rights import Claim
from restante_server.store import search
from restante_server.store.restriction import Restriction, asks_for_text
from restante_server.store.search import Horizon, Key, Query, Step


@dataclass(slots=True)
class Matches:
    """All messages that match, by UID if the scan has a folder, else by message id."""

    horizon: Horizon = Horizon(0, 1)  # of the first read
    keys: list[int] = field(default_factory=list)  # ascending UIDs or message ids
    message_ids: list[int] = field(default_factory=list)
    highest_change_number: int = 0  # among the matches; 0 when none match

    @property
    def known_keys(self) -> list[int]:
        """The keys without messages that arrived after the first read."""
        return self.keys[: bisect_left(self.keys, self.horizon.next_key)]


@contextlib.contextmanager
def under_way(call: Call, query: Query) -> Iterator[None]:
    """Count a search for text during the block: an account may have a limited number. Raises TooManyOperations."""
    if not asks_for_text(query.restriction):
        yield
        return
    with call.core.searches.under_way(call.caller.account_id):
        yield


async def step(call: Call, query: Query, read: Callable[[Connection], Step], most: int | None = None) -> Step:
    """One step of a search with confirmed hits. A search for text waits for the account's turn."""
    if not asks_for_text(query.restriction):
        return await call.core.db.read(read, deadline=call.deadline)
    searches = call.core.searches
    async with searches.turn(call.caller.account_id):
        found = await call.core.db.read(read, deadline=call.deadline)
        if found.looks:
            await searches.look(partial(found.confirm, most=most), call.deadline)
    return found


async def matches(call: Call, claim: Claim, restriction: Restriction) -> Matches:
    """All messages of a folder or mailbox that match, within the call's deadline.

    Raises FolderNotFound, MailboxNotFound, DeadlineExceeded, TooManyOperations.
    """
    query, found = Query(restriction), Matches()
    directory = call.core.contents.directory

    def begin(tx: Connection) -> Step:
        place = claim.place(tx)
        found.horizon = search.horizon(tx, place)
        return search.matches(tx, place, directory, query, None)

    def further(tx: Connection, *, after: Key) -> Step:
        return search.matches(tx, claim.place(tx), directory, query, after)

    read: Callable[[Connection], Step] = begin
    with under_way(call, query):
        while True:
            some = await step(call, query, read)
            key, message_id, change_number = 0, some.width, some.width + 1
            found.keys += [hit[key] for hit in some.hits]
            found.message_ids += [hit[message_id] for hit in some.hits]
            found.highest_change_number = max(
                found.highest_change_number, *(hit[change_number] for hit in some.hits), 0
            )
            if some.after is None:
                return found
            read = partial(further, after=some.after)
