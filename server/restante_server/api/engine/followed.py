"""The change numbers of folders, for clients that keep views of them. A number includes every acknowledged change.

A core that is alone on its store answers from memory: each commit calls `note` before its writer is answered. If
several cores write, one short read serves all requests of one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from restante_server.store import changes
from restante_server.store.changes import Place, Touched

MOST_KNOWN: Final = 50_000  # folders, about 10 MB; then all are forgotten, and read again on request

Read = Callable[[Connection], Any]
BeginRead = Callable[[Callable[[], Read]], asyncio.Future[Any]]
"""Begins a read with this turn of the loop. Its argument returns the read at the end of the turn."""


class ChangeNumbers:
    """The known numbers, and the reads of unknown ones. Belongs to the event loop, except for `forget`."""

    def __init__(self, begin_read: BeginRead, *, alone: bool) -> None:
        """`alone`: no other process writes to the store."""
        self._begin_read, self._alone = begin_read, alone
        # 0 while a folder is being read, so that a commit meanwhile is noted. Absent folders are not noted.
        self._known: dict[Place, int] = {}
        self._waiting: list[tuple[Place, asyncio.Future[int]]] = []

    def note(self, touched: Mapping[int, Touched]) -> None:
        """Raise the known numbers to those of a commit of this core."""
        known = self._known
        for mailbox_id, what in touched.items():
            for folder_id, number in what.folders.items():
                place = (mailbox_id, folder_id)
                if number > known.get(place, number):
                    known[place] = number

    def forget(self) -> None:
        """Forget every number, because the outcome of a commit is unknown. May be called on any thread."""
        self._known = {}

    def of(self, place: Place) -> int | asyncio.Future[int]:
        """The change number of (mailbox, folder), 0 if there is none. A future belongs to the caller alone."""
        if number := self._known.get(place):
            return number
        if self._alone:
            if len(self._known) >= MOST_KNOWN:
                self._known = {}
            self._known.setdefault(place, 0)
        if not self._waiting:
            table = self._known
            waiting = self._waiting
            self._begin_read(self._begin).add_done_callback(partial(self._told, waiting, table))
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((place, future))
        return future

    def _begin(self) -> Read:
        """The read of all folders that wait. Later requests wait for the next read."""
        waiting, self._waiting = self._waiting, []
        return partial(changes.of_folders, places={place for place, _ in waiting})

    def _told(
        self, waiting: list[tuple[Place, asyncio.Future[int]]], table: dict[Place, int], read: asyncio.Future[Any]
    ) -> None:
        error = asyncio.CancelledError() if read.cancelled() else read.exception()
        numbers: Mapping[Place, int] = {} if error else read.result()
        for place, future in waiting:
            number = numbers.get(place, 0)
            if self._alone and not error:
                number = self._remember(table, place, number)
            if future.done():
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(number)

    def _remember(self, table: dict[Place, int], place: Place, number: int) -> int:
        """Store a number in a table and return the highest known. The table has no effect if `forget` replaced it."""
        number = max(number, table.get(place, 0))
        if number:
            table[place] = number
        else:
            table.pop(place, None)
        return number
