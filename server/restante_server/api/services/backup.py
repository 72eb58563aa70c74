"""AdminService: CheckStore and BackupStore."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from restante.errors import InvalidArgument
from restante.v1.admin_pb2 import BackupStoreRequest, BackupStoreResponse, CheckStoreRequest, CheckStoreResponse
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.upkeep import backup, check, digests
from restante_server.upkeep.backup_files import BackupFailed

handlers = Handlers()

log = logging.getLogger(__name__)

AT_ONCE = 200  # contents compared in one snapshot
PROGRESS_SECONDS = 0.2


@handlers.stream("AdminService", "CheckStore", rule=administrators)
async def check_store(call: Call, request: CheckStoreRequest) -> AsyncIterator[CheckStoreResponse]:
    """See AdminService.CheckStore."""
    db, directory = call.core.db, call.core.contents.directory
    done = 0
    total = len(check.INVARIANTS) + (await db.read(digests.live_contents) if request.digests else 0)
    for look in check.INVARIANTS:
        for finding in await db.read(look):
            yield CheckStoreResponse(done=done, total=total, finding=finding)
        done += 1
        yield CheckStoreResponse(done=done, total=total)
    last: int | None = 0 if request.digests else None
    while last is not None:
        last, wrong = await db.read(digests.compare, directory, last, AT_ONCE)
        done = min(done + AT_ONCE, total)
        for finding in wrong:
            yield CheckStoreResponse(done=done, total=total, finding=finding)
        yield CheckStoreResponse(done=done, total=total)
    yield CheckStoreResponse(done=total, total=total, finished=True)


def backup_target(call: Call, given: str) -> Path:
    """The directory to write a backup to. Raises InvalidArgument.

    The admin identity proves a user of this machine, who could write there anyway. A session may come from anywhere,
    and the core writes with the core's rights. So a session may only name a directory below `store.backups`, also after
    following symbolic links.
    """
    target = Path(given)
    if not target.is_absolute():
        raise InvalidArgument(field="directory", problem="must be an absolute path")
    if ".." in target.parts or "\0" in given:
        raise InvalidArgument(field="directory", problem="must be a path without .. and NUL")
    if not call.caller.account_id:
        return target
    try:
        root, target = call.core.settings.backups_directory.resolve(), target.resolve()
    except (OSError, RuntimeError):  # a loop of symbolic links
        problem = "cannot be resolved: a symbolic link leads in a circle, or a part of the path is not a directory"
        raise InvalidArgument(field="directory", problem=problem) from None
    if root not in target.parents:
        problem = "must be below the core's store.backups, unless the owner of the data directory asks"
        raise InvalidArgument(field="directory", problem=problem)
    return target


@handlers.stream("AdminService", "BackupStore", rule=administrators)
async def backup_store(call: Call, request: BackupStoreRequest) -> AsyncIterator[BackupStoreResponse]:
    """See AdminService.BackupStore."""
    core, target = call.core, backup_target(call, request.directory)
    progress = [0, 0]

    def told(done: int, total: int) -> None:
        progress[:] = [done, total]

    async def write() -> None:
        async with core.collector.paused():
            arguments = (core.settings.store_url, core.contents.directory, target, call.now, told)
            await asyncio.to_thread(backup.write, *arguments)

    # A thread cannot be cancelled: if the stream ends first, the backup goes on with the collector paused.
    work = core.tasks.spawn(write(), "backup")
    work.add_done_callback(_note_failure)
    while not (await asyncio.wait([work], timeout=PROGRESS_SECONDS))[0]:
        yield BackupStoreResponse(done_octets=progress[0], total_octets=progress[1])
    try:
        work.result()
    except BackupFailed as problem:
        raise InvalidArgument(field="directory", problem=str(problem)) from None
    except OSError as problem:
        raise InvalidArgument(field="directory", problem=problem.strerror or "cannot be written") from None
    yield BackupStoreResponse(done_octets=progress[0], total_octets=progress[0], finished=True)


def _note_failure(work: asyncio.Task[None]) -> None:
    """Log a failure, because the client may be gone."""
    if not work.cancelled() and (problem := work.exception()) is not None:
        log.warning("a backup was not made: %s", problem)
