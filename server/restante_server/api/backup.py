"""AdminService, as far as it looks at and copies the whole store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from restante.errors import InvalidArgument
from restante.v1.admin_pb2 import BackupStoreRequest, BackupStoreResponse, CheckStoreRequest, CheckStoreResponse
from restante_server.api.access import administrators
from restante_server.api.caller import Call
from restante_server.api.registry import stream
from restante_server.store import backup, check, digests
from restante_server.transport import check as transport_check

AT_ONCE = 200  # contents compared in one snapshot
PROGRESS_SECONDS = 0.2


@stream("AdminService", "CheckStore", rule=administrators)
async def check_store(call: Call, request: CheckStoreRequest) -> AsyncIterator[CheckStoreResponse]:
    """See AdminService.CheckStore."""
    db, directory = call.core.db, call.core.contents.directory
    done = 0
    total = 2 + (await db.read(digests.live_contents) if request.digests else 0)
    for look in (check.check, transport_check.check):
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


@stream("AdminService", "BackupStore", rule=administrators)
async def backup_store(call: Call, request: BackupStoreRequest) -> AsyncIterator[BackupStoreResponse]:
    """See AdminService.BackupStore."""
    target = Path(request.directory)
    if not target.is_absolute():
        raise InvalidArgument(field="directory", problem="an absolute path is needed")
    core = call.core
    progress = [0, 0]

    def told(done: int, total: int) -> None:
        progress[:] = [done, total]

    async with core.collector.resting():
        arguments = (core.settings.store_url, core.contents.directory, target, call.now, told)
        work = asyncio.create_task(asyncio.to_thread(backup.write, *arguments))
        try:
            while not (await asyncio.wait([work], timeout=PROGRESS_SECONDS))[0]:
                yield BackupStoreResponse(done_octets=progress[0], total_octets=progress[1])
        finally:
            await asyncio.wait([work])  # a thread cannot be called back: the collector rests until it is done
    try:
        work.result()
    except backup.BackupFailed as problem:
        raise InvalidArgument(field="directory", problem=str(problem)) from None
    except OSError as problem:
        raise InvalidArgument(field="directory", problem=problem.strerror or "cannot be written") from None
    yield BackupStoreResponse(done_octets=progress[0], total_octets=progress[0], finished=True)
