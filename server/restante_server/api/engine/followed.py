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
from restante_server.store.changes import FolderKey, Touched

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
        self._known: dict[FolderKey, int] = {}
        self._waiting: list[tuple[FolderKey, asyncio.Future[int]]] = []

    def note(self, touched: Mapping[int, Touched]) -> None:
        """Raise the known numbers to those of a commit of this core."""
        known = self._known
        for mailbox_id, what in touched.items():
            for folder_id, number in what.folders.items():
                key = (mailbox_id, folder_id)
                if number > known.get(key, number):
                    known[key] = number

    def forget(self) -> None:
        """Forget every number, because the outcome of a commit is unknown. May be called on any thread."""
        self._known = {}

    def of(self, key: FolderKey) -> int | asyncio.Future[int]:
        """The change number of (mailbox, folder), 0 if there is none. A future belongs to the caller alone."""
        if number := self._known.get(key):
            return number
        if self._alone:
            if len(self._known) >= MOST_KNOWN:
                self._known = {}
            self._known.setdefault(key, 0)
        if not self._waiting:
            table = self._known
            waiting = self._waiting
            self._begin_read(self._begin).add_done_callback(partial(self._begun, waiting, table))
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        return future

    def _begin(self) -> Read:
        """The read of all folders that wait. Later requests wait for the next read."""
        waiting, self._waiting = self._waiting, []
        return changes.of_folders({key for key, _ in waiting})

    def _begun(
        self,
        waiting: list[tuple[FolderKey, asyncio.Future[int]]],
        table: dict[FolderKey, int],
        read: asyncio.Future[Any],
    ) -> None:
        error = asyncio.CancelledError() if read.cancelled() else read.exception()
        numbers: Mapping[FolderKey, int] = {} if error else read.result()
        for key, future in waiting:
            number = numbers.get(key, 0)
            if self._alone and not error:
                number = self._remember(table, key, number)
            if future.done():
                continue
            if error:
                future.set_exception(error)
            else:
                future.set_result(number)

    def _remember(self, table: dict[FolderKey, int], key: FolderKey, number: int) -> int:
        """Store a number in a table and return the highest known. The table has no effect if `forget` replaced it."""
        number = max(number, table.get(key, 0))
        if number:
            table[key] = number
        else:
            table.pop(key, None)
        return number
