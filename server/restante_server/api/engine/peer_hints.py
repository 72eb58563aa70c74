"""Hints between the cores of one PostgreSQL store (docs/design.md "Hints between cores").

A core sends hints after the commit, on a separate connection, at most a hundred times a second: NOTIFY inside the
transaction would serialise all commits. A hint is a mailbox and its change number. It may be lost, late or doubled.
The receiver compares with the database after every reconnection and every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
from sqlalchemy import make_url

from restante.errors import RestanteError
from restante_server.api.engine.notify import Notifier
from restante_server.store.changes import Touched

log = logging.getLogger(__name__)

CHANNEL = "restante_changes"
PAYLOAD_OCTETS = 7_900  # PostgreSQL takes less than 8000
PAUSE_SECONDS = 0.01
RECONNECT_SECONDS = 1.0


def encode(origin: str, numbers: Mapping[int, int]) -> tuple[str, dict[int, int]]:
    """A payload with the sender and as many (mailbox, change number) pairs as fit, and the remaining pairs."""
    words, octets, left = [origin], len(origin), dict(numbers)
    for mailbox_id, change_number in numbers.items():
        word = f"{mailbox_id}:{change_number}"
        if octets + 1 + len(word) > PAYLOAD_OCTETS:
            break
        words.append(word)
        octets += 1 + len(word)
        del left[mailbox_id]
    return " ".join(words), left


def decode(payload: str) -> tuple[str, dict[int, int]]:
    """The sender and the pairs of a payload. Raises ValueError for a payload that no core of ours wrote."""
    origin, *words = payload.split(" ")
    return origin, {int(mailbox): int(number) for mailbox, _, number in (word.partition(":") for word in words)}


class PeerHints:
    """Sends hints to the other cores and receives theirs."""

    def __init__(self, url: str, notifier: Notifier) -> None:
        """`url` is the store's URL in SQLAlchemy's form."""
        self._address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._notifier = notifier
        self._origin = secrets.token_hex(8)
        self._waiting: dict[int, int] = {}
        self._wake = asyncio.Event()

    def announce(self, touched: Mapping[int, Touched]) -> None:
        """Queue the change numbers of this core's commit for `send`."""
        for mailbox_id, what in touched.items():
            # A commit in several lanes may be reported after a later one.
            self._waiting[mailbox_id] = max(what.change_number, self._waiting.get(mailbox_id, 0))
        self._wake.set()

    async def send(self) -> None:
        """Send queued hints for ever, those of several commits together."""
        await self._steadily(self._send)

    async def listen(self) -> None:
        """Pass the hints of other cores to the notifier for ever."""
        await self._steadily(self._listen)

    async def _steadily(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]) -> None:
        warned = False
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._address, autocommit=True) as connection:
                    warned = False
                    await work(connection)
            except (psycopg.Error, OSError, RestanteError) as error:  # RestanteError: the store is busy
                level = logging.DEBUG if warned else logging.WARNING
                log.log(
                    level,
                    "hints between cores are interrupted; changes of other cores arrive late: %s",
                    " ".join(str(error).split()),
                )
                warned = True
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _send(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            if not self._waiting:  # hints left over from a lost connection go first
                await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                payload, left = encode(self._origin, self._waiting)
                self._waiting = left
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        await self._notifier.compare()  # find the hints missed while not listening
        async for notice in connection.notifies():
            with contextlib.suppress(ValueError):
                origin, numbers = decode(notice.payload)
                if origin != self._origin:
                    for mailbox_id, change_number in numbers.items():
                        self._notifier.hint(mailbox_id, change_number)
