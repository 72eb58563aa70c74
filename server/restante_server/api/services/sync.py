"""SyncService.SyncMailbox: it brings a client's copy of a mailbox or folder up to date, and keeps it so.

Rounds (store.sync) follow each other. The rows of a round are read only as the client takes them. A cursor holds the
position of the copy, sealed for its mailbox and folder.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from restante.errors import CursorInvalid, FolderNotFound, RestanteError
from restante.v1 import sync_pb2 as v1
from restante.v1.message_pb2 import MessageColumn
from restante.v1.sync_pb2 import ResetReason
from restante_mail.idset import IdSet
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.notify import Deltas
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, message_rows
from restante_server.api.services.message_rows import Ask, Batch
from restante_server.api.services.message_shapes import Shape
from restante_server.api.services.sealed import seal, unseal
from restante_server.directory.rights import Claim
from restante_server.store import sync
from restante_server.store.changes import Removal, Tombstone
from restante_server.store.selection import Selection
from restante_server.store.sync import FolderState, Position, Round

handlers = Handlers()

DAY: Final = 24 * 3_600 * 1_000_000  # microseconds
QUIET_SECONDS: Final = 60.0  # between checkpoints for a follower while nothing changes
IDS_AT_ONCE: Final = 10_000  # of one removal in one response
_CURSOR: Final = struct.Struct(">Iqqq")  # epoch, then the position


class _Reset(Exception):
    """The copy must begin anew."""

    def __init__(self, reason: ResetReason.ValueType) -> None:
        super().__init__(reason)
        self.reason = reason


class _Hints:
    """Wakes a follower after a change of its mailbox or folder."""

    def __init__(self, call: Call, claim: Claim) -> None:
        self._call, self._folder_id = call, claim.folder_id
        self._new = asyncio.Event()
        self._draining = False
        self.quiet = False  # the last wait ended without anything new
        self._watched = call.core.notifier.watch(claim, self._hint, self._lose)
        self._stop_draining = call.core.tasks.on_drain(self._drain)

    async def wait(self, seconds: float) -> bool:
        """Wait until there is something new, at most this long. Returns False if the core drains."""
        self.quiet = False
        try:
            async with asyncio.timeout(seconds):
                await self._new.wait()
        except TimeoutError:
            self.quiet = True  # the next round finds nothing and ends with a checkpoint
        return not self._draining

    def taken(self) -> None:
        """Forget the hints so far, because a round begins now."""
        if not self._draining:
            self._new.clear()

    def close(self) -> None:
        self._stop_draining()
        self._call.core.notifier.forget(self._watched)

    def _hint(self, _change_number: int, folder_ids: frozenset[int], _answered: bool, _deltas: Deltas) -> None:
        if not self._folder_id or not folder_ids or self._folder_id in folder_ids:
            self._new.set()

    def _lose(self, _why: RestanteError) -> None:
        """Wake the follower: its next round is refused in the transaction."""
        self._new.set()

    def _drain(self) -> None:
        self._draining = True
        self._new.set()


@handlers.stream("SyncService", "SyncMailbox", rule=access.MAIL_SESSION, ends_with_token=True)
async def sync_mailbox(call: Call, request: v1.SyncMailboxRequest) -> AsyncIterator[v1.SyncMailboxResponse]:
    """See SyncService.SyncMailbox. When the core drains, the stream ends after a checkpoint."""
    claim = call.claim(request.mailbox_id, request.folder_id)
    folder_id = claim.folder_id
    columns = sorted({*request.columns, *(() if folder_id else (MessageColumn.MESSAGE_COLUMN_FOLDER,))})
    asked = Ask(claim, Selection(None, IdSet(())), Shape.of(columns, ()))
    hints = _Hints(call, claim)
    try:
        position = await _position(call, claim, request.cursor)
        followed = False
        while True:
            hints.taken()
            current = await _begin(call, claim, position)
            for state in current.folders:
                yield v1.SyncMailboxResponse(folder=_folder(state))
            async for change in _removals(call, claim, current):
                yield change
            async for change, key in _rows(call, current, asked):
                yield change
                if key:
                    yield _checkpoint(call, claim, current.at(key))
            moved, position = current.ended != position or not followed, current.ended
            if moved or hints.quiet:  # a hint may be of changes that the round before has sent
                yield _checkpoint(call, claim, position)
            followed = True
            if not current.whole:
                continue
            if not request.follow or not await hints.wait(QUIET_SECONDS):
                return
    except _Reset as needed:
        yield v1.SyncMailboxResponse(reset_reason=needed.reason)
    finally:
        hints.close()


async def _begin(call: Call, claim: Claim, position: Position | None) -> Round:
    try:
        return await call.core.db.read(_round, claim, position)
    except CursorInvalid:
        raise _Reset(ResetReason.RESET_REASON_HISTORY_GONE) from None
    except FolderNotFound:
        if position is None:
            raise
        raise _Reset(ResetReason.RESET_REASON_FOLDER_GONE) from None


def _round(tx: Connection, claim: Claim, position: Position | None) -> Round:
    return sync.begin(tx, claim.place(tx), position)


async def _removals(call: Call, claim: Claim, current: Round) -> AsyncIterator[v1.SyncMailboxResponse]:
    """The removals of a round, read as the client takes them. Raises _Reset."""
    after: Tombstone | None = None
    while found := await _removed(call, claim, current, after):
        for after in found:
            for change in _removal(after, claim.folder_id):
                yield change


async def _removed(call: Call, claim: Claim, current: Round, after: Tombstone | None) -> list[Tombstone]:
    try:
        return await call.core.db.read(_removals_page, claim, current, after)
    except CursorInvalid:
        raise _Reset(ResetReason.RESET_REASON_HISTORY_GONE) from None


def _removals_page(tx: Connection, claim: Claim, current: Round, after: Tombstone | None) -> list[Tombstone]:
    return sync.removals(tx, claim.place(tx), current, after)


def _folder(state: FolderState) -> v1.FolderUpsert:
    values = state._asdict()
    values.pop("change_number")
    return v1.FolderUpsert(**values)


def _removal(tombstone: Tombstone, folder_id: int) -> Iterator[v1.SyncMailboxResponse]:
    """The messages that left a folder. A move within one folder is sent as a changed message only, with its new UID."""
    if tombstone.kind is Removal.MOVED and tombstone.target_folder_id == tombstone.folder_id:
        return
    ids = iter(tombstone.message_ids)
    while some := list(islice(ids, IDS_AT_ONCE)):
        if tombstone.kind is Removal.MOVED:
            moved = v1.MessagesMoved(
                from_folder_id=tombstone.folder_id, to_folder_id=tombstone.target_folder_id, message_ids=some
            )
            yield v1.SyncMailboxResponse(moved=moved)
        else:
            recoverable = tombstone.kind is not Removal.HARD
            deleted = v1.MessagesDeleted(folder_id=tombstone.folder_id, message_ids=some, recoverable=recoverable)
            yield v1.SyncMailboxResponse(deleted=deleted)
    if tombstone.kind is Removal.FOLDER and not folder_id:
        yield v1.SyncMailboxResponse(deleted_folder_id=tombstone.folder_id)


async def _rows(call: Call, current: Round, asked: Ask) -> AsyncIterator[tuple[v1.SyncMailboxResponse, int]]:
    """The rows of a round in batches, each with the key up to which all rows are sent; 0 with the last batch."""
    if not current.messages.ids:
        return
    ask = replace(asked, selection=current.messages)
    after: int | None = 0
    while after is not None:
        batch: Batch = await call.core.db.read(message_rows.next_batch, call.core.contents.directory, ask, after)
        after = batch.after
        if batch.count:
            yield v1.SyncMailboxResponse(messages=batch.rows), after or 0


def _checkpoint(call: Call, claim: Claim, position: Position) -> v1.SyncMailboxResponse:
    plain = _CURSOR.pack(call.core.epoch, *position)
    checkpoint = v1.Checkpoint(
        cursor=seal(call, _purpose(claim), plain),
        change_number=max(position.sent, 0),
        expires_at=convert.timestamp(time.time_ns() // 1_000 + call.core.settings.store.history_days * DAY),
    )
    return v1.SyncMailboxResponse(checkpoint=checkpoint)


async def _position(call: Call, claim: Claim, cursor: bytes) -> Position | None:
    """The position in a cursor. Raises CursorInvalid for a cursor of another copy, _Reset for one of another epoch."""
    if not cursor:
        return None
    try:
        plain = await unseal(call, _purpose(claim), cursor)
        epoch, *position = _CURSOR.unpack(plain)
    except (ValueError, struct.error):
        raise CursorInvalid from None
    if epoch != call.core.epoch:
        raise _Reset(ResetReason.RESET_REASON_EPOCH_CHANGED)
    return Position(*position)


def _purpose(claim: Claim) -> bytes:
    return b"sync cursor" + struct.pack(">qq", claim.mailbox_id, claim.folder_id)
