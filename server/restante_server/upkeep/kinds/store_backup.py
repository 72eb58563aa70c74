"""The job of AdminService.BackupStore. It is one step: after an interruption it begins anew, in the same directory."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import psycopg

from restante.errors import BackupFailed as Failed
from restante.errors import InvalidArgument
from restante.v1.admin_pb2 import BackupStoreRequest
from restante_server.upkeep import backup
from restante_server.upkeep.backup_files import BackupFailed
from restante_server.upkeep.jobs.records import JobKind
from restante_server.upkeep.jobs.work import Work

OUTSIDE: Final = "must be below the core's store.backups, unless the owner of the data directory asks"
CIRCLE: Final = "cannot be resolved: a symbolic link leads in a circle, or a part of the path is not a directory"


def place(data: Path) -> str:
    """The name of the core with this data directory. A backup runs only there, because its directory is there."""
    return f"{socket.gethostname()}:{data.resolve()}"


def permitted_directory(given: str, root: Path | None) -> Path:
    """The directory to write a backup to, below `root` also after symbolic links are followed; None: anywhere.

    The admin identity proves a user of this machine, who could write there anyway. A session may come from anywhere,
    and the core writes with the core's rights. Raises InvalidArgument.
    """
    target = Path(given)
    if not target.is_absolute():
        raise InvalidArgument(field="directory", problem="must be an absolute path")
    if ".." in target.parts or "\0" in given:
        raise InvalidArgument(field="directory", problem="must be a path without .. and NUL")
    if root is None:
        return target
    try:
        above, target = root.resolve(), target.resolve()
    except (OSError, RuntimeError):  # a loop of symbolic links
        raise InvalidArgument(field="directory", problem=CIRCLE) from None
    if above not in target.parents:
        raise InvalidArgument(field="directory", problem=OUTSIDE)
    return target


class StoreBackup:
    """See JobHandler. The cursor is the owner's name in the directory (backup_files.claim_directory)."""

    kind = JobKind.BACKUP_STORE
    alone = True  # two backups would compete for the disk, and each keeps the collector from its work

    def __init__(
        self, store_url: str, contents: Path, backups: Path, paused: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """`backups`: the only place for backups that sessions begin. `paused()` pauses the collectors."""
        self._url, self._contents, self._backups, self._paused = store_url, contents, backups, paused

    async def run(self, work: Work) -> None:
        """See JobHandler. Raises Failed."""
        given = BackupStoreRequest.FromString(work.job.request).directory
        root = None if work.job.account_id is None else self._backups
        target = permitted_directory(given, root)  # again, because links may have changed
        stopped = threading.Event()

        def progress(done: int, total: int) -> None:
            if stopped.is_set():
                raise BackupFailed("it was cancelled")
            work.progress(done, total)

        async with self._paused():
            arguments = (self._url, self._contents, target, time.time_ns() // 1_000, progress, work.job.cursor.decode())
            writing = asyncio.ensure_future(asyncio.to_thread(backup.write, *arguments))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                stopped.set()  # a thread cannot be cancelled; it leaves at the next progress, and empties the directory
                await asyncio.gather(writing, return_exceptions=True)
                raise
            except BackupFailed as problem:
                raise Failed(problem=str(problem)) from None
            except OSError as problem:
                raise Failed(problem=problem.strerror or "the directory cannot be written") from None
            except (sqlite3.Error, psycopg.Error) as problem:
                raise Failed(problem=f"the database cannot be copied: {problem}") from problem
        work.progress(work.done, work.done)
