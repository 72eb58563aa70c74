"""Receiving the octets of a content: bounded memory, one parse, and files that are durable before a row names them.

This module opens no transaction. `Contents.writer()` makes a Writer, which takes octets as they come. The operation
that names the content then inserts the Staged that `Writer.finish` returned. A file whose operation fails is removed at
once, or by the collector's sweep when the operation may have been committed.
"""

from __future__ import annotations

import hashlib
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

from restante.errors import InvalidContent, MessageTooLarge, RestanteError, StoreFull
from restante_mail.canonical import Canonicaliser, NulFound, line_ends
from restante_mail.mime import parts
from restante_mail.mime.facts import Facts, scan
from restante_server.db.engine import Database
from restante_server.db.errors import CommitFailed
from restante_server.db.threads import on_thread
from restante_server.store import contents
from restante_server.store.contents import Location, NewContent, Stored

R = TypeVar("R")

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
    """A content ready to be named: `new` is still to be inserted; without it `content_id` is in the store and held."""

    size_octets: int
    facts: Facts | None  # None with Form.ANY
    line_ends_changed: bool
    new: NewContent | None
    content_id: int = 0

    @property
    def octets(self) -> int:
        """The octets that the transaction which names the content writes to the database."""
        return len(self.new.octets) if self.new is not None and self.new.octets is not None else 0

    def insert(self, tx: Connection, now: int) -> int:
        """Return the content's id, in the transaction that names it. Raises StoreBusy when it is not live any more."""
        if self.new is not None:
            return contents.insert_many(tx, [self.new], now)[0]
        contents.require_live(tx, self.content_id)
        return self.content_id


class Contents:
    """The contents of one store."""

    def __init__(self, db: Database, settings: ContentSettings) -> None:
        self.db, self.settings = db, settings
        self._looked_at, self._room = 0.0, True
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="restante-staging")
        self.durable: set[Path] = set()  # subdirectories whose entries in the directory are durable

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

    def stage_small(self, octets: bytes, form: Form) -> Staged | None:
        """As `stage`, at once; None for a content that goes to a file or is scanned on a thread."""
        most = min(SCAN_INLINE_OCTETS, self.settings.inline_octets)
        return self.writer(form).finish_small(octets, most) if len(octets) <= most else None

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

    def forget(self, *staged: Staged | None, after: BaseException | None = None) -> None:
        """Remove the files of contents that no transaction has named.

        A client whose mail is refused again and again would otherwise fill the disk. `after` is the failure of the
        write that was to name them. If it leaves open whether the write was committed, the files stay; the collector's
        sweep removes them when no row names them.
        """
        if after is not None and (not isinstance(after, RestanteError) or isinstance(after, CommitFailed)):
            return
        for one in staged:
            if one is not None and one.new is not None and one.new.file_name is not None:
                (self.directory / one.new.file_name).unlink(missing_ok=True)

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
    _ends_with_cr: bool = False  # the last chunk ended with CR: the next must begin with LF

    async def feed(self, octets: bytes) -> None:
        """Take the next octets. Raises MessageTooLarge, InvalidContent."""
        self._receive(octets)
        if self._held >= FLUSH_OCTETS:
            await self._contents.on_thread(self._flush)

    def _receive(self, octets: bytes) -> None:
        if self._form is Form.MAKE_CANONICAL:
            try:
                octets = self._canonical.feed(octets)
            except NulFound as found:
                raise InvalidContent(problem=f"the message has a NUL octet, at offset {found.offset}") from None
        elif self._form is Form.CANONICAL:
            self._require_canonical(octets)
        self._take(octets)

    async def finish(self) -> Staged:
        """Return the content, parsed, and durable when it is in a file."""
        self._end()
        if self._file < 0 and self._size <= self._contents.settings.inline_octets:
            octets = b"".join(self._chunks)
            return self._inline(octets, await self._contents.scan(octets) if self._form is not Form.ANY else None)
        facts = await self._contents.on_thread(self._complete)
        name, self._name = self._name, ""
        new = NewContent(self._size, self._digest.digest(), _structure(facts), None, name)
        return Staged(self._size, facts, self._changed, new)

    def finish_small(self, octets: bytes, most: int) -> Staged | None:
        """Take the only octets and return the content, parsed here; None if it has more than `most` octets.

        Raises as `feed`.
        """
        self._receive(octets)
        self._end()
        if self._size > most:
            return None
        octets = b"".join(self._chunks)
        return self._inline(octets, scan(octets) if self._form is not Form.ANY else None)

    def _end(self) -> None:
        if self._form is Form.MAKE_CANONICAL:
            self._take(self._canonical.finish())
        elif self._ends_with_cr:
            raise InvalidContent(problem="the message ends with a bare CR")

    def _inline(self, octets: bytes, facts: Facts | None) -> Staged:
        new = NewContent(self._size, self._digest.digest(), _structure(facts), octets, None)
        return Staged(self._size, facts, self._changed, new)

    @property
    def _changed(self) -> bool:
        return self._form is Form.MAKE_CANONICAL and self._canonical.changed

    def abandon(self) -> None:
        """Discard the content; harmless after `finish`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._name:
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
        _sync_directory(path.parent)
        if path.parent not in self._contents.durable:
            _sync_directory(self._contents.directory)
            self._contents.durable.add(path.parent)
        return _scan_file(path) if self._form is not Form.ANY else None


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _structure(facts: Facts | None) -> bytes:
    return parts.encode(facts.tree) if facts is not None else b""


def _scan_file(path: Path) -> Facts:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return scan(mapped)
