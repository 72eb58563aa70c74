"""Receiving the octets of a content: bounded memory, one parse, and files that are durable before a row names them.

This module opens no transaction. `Contents.writer()` makes a Writer, which takes octets as they come. The operation
that names the content then inserts the Staged that `Writer.finish` returned.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from restante.errors import Draining, InvalidContent, MessageTooLarge, StoreBusy, StoreFull
from restante_mail.canonical import Canonicaliser, NulFound, line_ends
from restante_mail.mime import parts
from restante_mail.mime.facts import Facts, scan
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.threads import on_thread
from restante_server.store import contents, garbage
from restante_server.store.contents import Location, NewContent, Stored

R = TypeVar("R")

log = logging.getLogger(__name__)

HOUR = 3_600_000_000  # microseconds
FLUSH_OCTETS = 1 << 20  # octets held in memory before they go to a file
SCAN_INLINE_OCTETS = 32 << 10  # up to here a scan on the event loop costs less than a hop to a thread
THREADS = 4  # reserved for writing and scanning incoming octets
ROOM_SECONDS = 1.0  # validity of a measurement of the free space
RETRY_SECONDS = 60.0


class Form(Enum):
    """The form that the octets of a content must have."""

    MAKE_CANONICAL = "a message: bare CR and LF become CRLF"
    CANONICAL = "a message whose line ends are CRLF already, as SMTP requires"
    ANY = "any octets: not a message"


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """The directory of contents and their size limits."""

    directory: Path
    inline_octets: int = 64 << 10  # contents up to this size go to the database
    max_message_octets: int = 50 << 20
    reserve_octets: int = 1 << 30  # with less free space the store takes no new mail


@dataclass(frozen=True, slots=True)
class Staged:
    """A content ready to be named: `new` is still to be inserted; without it `content_id` is in the store, pinned."""

    size_octets: int
    facts: Facts | None  # None with Form.ANY
    line_ends_changed: bool
    new: NewContent | None
    content_id: int = 0
    pin_id: int = 0

    def insert(self, tx: Connection, now: int) -> int:
        """Return the content's id, in the transaction that names it. Raises StoreBusy when its pin has lapsed."""
        if self.new is not None:
            return contents.insert_many(tx, [self.new], now)[0]
        contents.require_live(tx, self.content_id)
        contents.unpin(tx, self.content_id, self.pin_id)
        return self.content_id

    def forget(self, tx: Connection, now: int) -> None:
        """Unpin a content that nothing will name, and report it to the collector before the pin lapses (an hour)."""
        if self.new is None:
            contents.unpin(tx, self.content_id, self.pin_id)
            garbage.notice(tx, [self.content_id], now)


class Contents:
    """The contents of one store."""

    def __init__(self, db: Database, settings: ContentSettings) -> None:
        self.db, self.settings = db, settings
        self._looked_at, self._room = 0.0, True
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="restante-staging")
        self._forgetting: set[asyncio.Task[None]] = set()

    @property
    def directory(self) -> Path:
        """The directory of the contents in files."""
        return self.settings.directory

    def writer(self, form: Form) -> Writer:
        """A Writer for one content. Raises StoreFull when there is no room for new mail."""
        self.require_room()
        return Writer(self, form)

    async def stage(self, octets: bytes, form: Form) -> Staged:
        """Stage a content whose octets are all in memory. Raises MessageTooLarge, InvalidContent, StoreFull."""
        writer = self.writer(form)
        try:
            await writer.feed(octets)
            return await writer.finish()
        except BaseException:
            writer.abandon()
            raise

    async def facts(self, stored: Stored) -> Facts:
        """The facts of a message content that is in the store, read and parsed again."""
        if stored.place is Location.DATABASE:
            octets = await self.db.read(contents.read_range, self.directory, stored, 0, stored.size_octets)
            return await self.scan(octets)
        return await self.on_thread(partial(_scan_file, self.directory / str(stored.file_name)))

    async def scan(self, octets: bytes) -> Facts:
        """The facts of a message content that is in memory."""
        if len(octets) <= SCAN_INLINE_OCTETS:
            return scan(octets)
        return await self.on_thread(partial(scan, octets))

    async def on_thread(self, work: Callable[[], R]) -> R:
        """Run `work` on a staging thread. A cancelled call still waits until the thread has closed its file."""
        return await on_thread(self._threads, work)

    def forget(self, *staged: Staged | None) -> None:
        """Release contents that nothing has named, so that their files go soon and not when their pins lapse (an hour).

        A client whose mail is refused again and again would otherwise fill the disk. Harmless for a content that has
        been named after all.
        """
        for one in staged:
            if one is not None and one.new is None:
                forgetting = asyncio.create_task(self._forget(one), name="forget a content")
                self._forgetting.add(forgetting)
                forgetting.add_done_callback(self._forgetting.discard)

    async def _forget(self, staged: Staged) -> None:
        try:
            await self.db.write(Write(partial(staged.forget, now=time.time_ns() // 1_000), rows=2))
        except (StoreBusy, StoreFull, Draining) as error:
            log.info("an unused content stays stored until its pin lapses: %s", error.detail)

    def close(self) -> None:
        """Stop the threads after they have finished their current work."""
        self._threads.shutdown(wait=False)

    def require_room(self) -> None:
        """Raise StoreFull when the disk has less free space than the reserve.

        Unused space inside the SQLite file counts as free, because SQLite writes there first.
        """
        now = time.monotonic()
        if now - self._looked_at > ROOM_SECONDS or not self._looked_at:
            self._looked_at = now
            self._room = self._free_octets() >= self.settings.reserve_octets
        if not self._room:
            raise StoreFull(retry_seconds=RETRY_SECONDS)

    def _free_octets(self) -> int:
        """Free octets in the directory of contents or at the database's file, whichever is less."""
        free, file = shutil.disk_usage(self.directory).free, self.db.file
        if file is None:
            return free
        if file.parent.stat().st_dev == self.directory.stat().st_dev:
            return free + self.db.unused_octets
        return min(free, shutil.disk_usage(file.parent).free + self.db.unused_octets)


@dataclass(slots=True)
class Writer:
    """Receives one content: call `feed` as octets come, then `finish` or `abandon`."""

    _contents: Contents
    _form: Form
    _chunks: list[bytes] = field(default_factory=list)
    _held: int = 0
    _size: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    _canonical: Canonicaliser = field(default_factory=Canonicaliser)
    _file: int = -1
    _name: str = ""
    _registering: bool = False  # the file may have a row: `abandon` leaves it to the collector's sweep
    _ends_with_cr: bool = False  # the last chunk ended with CR: the next must begin with LF

    async def feed(self, octets: bytes) -> None:
        """Take the next octets. Raises MessageTooLarge, InvalidContent."""
        if self._form is Form.MAKE_CANONICAL:
            try:
                octets = self._canonical.feed(octets)
            except NulFound as found:
                raise InvalidContent(problem=f"the message has a NUL octet, at offset {found.offset}") from None
        elif self._form is Form.CANONICAL:
            self._require_canonical(octets)
        self._take(octets)
        if self._held >= FLUSH_OCTETS:
            await self._contents.on_thread(self._flush)

    async def finish(self) -> Staged:
        """Return the content, parsed, and durable when it is in a file."""
        if self._form is Form.MAKE_CANONICAL:
            self._take(self._canonical.finish())
        elif self._ends_with_cr:
            raise InvalidContent(problem="the message ends with a bare CR")
        changed = self._form is Form.MAKE_CANONICAL and self._canonical.changed
        if self._file < 0 and self._size <= self._contents.settings.inline_octets:
            octets = b"".join(self._chunks)
            facts = await self._contents.scan(octets) if self._form is not Form.ANY else None
            new = NewContent(self._size, self._digest.digest(), _structure(facts), octets, None)
            return Staged(self._size, facts, changed, new)
        facts = await self._contents.on_thread(self._complete)
        new = NewContent(self._size, self._digest.digest(), _structure(facts), None, self._name)
        return await self._register(new, facts, changed)

    def abandon(self) -> None:
        """Discard the content; harmless after `finish`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._name and not self._registering:
            (self._contents.directory / self._name).unlink(missing_ok=True)
        self._chunks.clear()

    def _take(self, octets: bytes) -> None:
        self._size += len(octets)
        limit = self._contents.settings.max_message_octets
        if self._size > limit:
            raise MessageTooLarge(limit_octets=limit)
        self._digest.update(octets)
        self._chunks.append(octets)
        self._held += len(octets)

    def _require_canonical(self, octets: bytes) -> None:
        """Raise InvalidContent for NUL and for a bare CR or LF: only CRLF ends a line (RFC 5321 2.3.8).

        A CR at the end of a chunk is checked together with the next chunk.
        """
        if self._ends_with_cr:
            octets = b"\r" + octets
        self._ends_with_cr = octets.endswith(b"\r")
        found = line_ends(octets[:-1] if self._ends_with_cr else octets)
        if found.nul or found.bare_cr or found.bare_lf:
            raise InvalidContent(
                problem="the message has a NUL octet" if found.nul else "the message has a bare CR or LF"
            )

    def _flush(self) -> None:
        """Append the octets in memory to the file, which gets a random name. Runs on a staging thread."""
        if self._file < 0:
            name = secrets.token_hex(16)
            self._name = f"{name[:2]}/{name[2:]}"
            path = self._contents.directory / self._name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        for chunk in self._chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._file, view) :]
        self._chunks.clear()
        self._held = 0

    def _complete(self) -> Facts | None:
        """Make the file and its directory entry durable, and scan it. Runs on a staging thread."""
        self._flush()
        os.fsync(self._file)
        os.close(self._file)
        self._file = -1
        path = self._contents.directory / self._name
        for directory in (path.parent, self._contents.directory):
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return _scan_file(path) if self._form is not Form.ANY else None

    async def _register(self, new: NewContent, facts: Facts | None, changed: bool) -> Staged:
        """Insert the row of a file and pin it for an hour against the collector."""
        pin_id = secrets.randbits(62)
        now = time.time_ns() // 1_000

        def run(tx: Connection) -> int:
            (content_id,) = contents.insert_many(tx, [new], now)
            contents.pin(tx, content_id, pin_id, now + HOUR)
            return content_id

        self._registering = True
        content_id = await self._contents.db.write(Write(run, rows=2))
        return Staged(self._size, facts, changed, None, content_id, pin_id)


def _structure(facts: Facts | None) -> bytes:
    return parts.encode(facts.tree) if facts is not None else b""


def _scan_file(path: Path) -> Facts:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return scan(mapped)
