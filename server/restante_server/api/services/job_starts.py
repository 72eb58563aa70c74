"""AdminService: CheckStore, BackupStore and DeleteAccount, which start jobs."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from restante.errors import AccountNotFound, InvalidArgument, MailboxNotFound
from restante.v1 import admin_pb2 as v1
from restante.v1 import methods
from restante_server.accounts import lifecycle
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import jobs
from restante_server.directory import addresses
from restante_server.upkeep import backup_files
from restante_server.upkeep.jobs import records
from restante_server.upkeep.jobs.records import ADMIN, Actor, JobKind, NewJob
from restante_server.upkeep.kinds import store_backup

handlers = Handlers()

DELETION_ROWS = 5


@handlers.direct(methods.CHECK_STORE, rule=administrators)
async def check_store(call: Call, request: v1.CheckStoreRequest) -> v1.CheckStoreResponse:
    """See AdminService.CheckStore."""
    kept = v1.CheckStoreRequest(digests=request.digests).SerializeToString()
    new = NewJob(JobKind.CHECK_STORE, _actor(call), request=kept)
    started = await call.write(
        request,
        lambda tx: v1.CheckStoreResponse(job=jobs.described(records.start(tx, new))),
        claims=(),
    )
    call.core.job_signals.started()
    return started


@handlers.direct(methods.BACKUP_STORE, rule=administrators)
async def backup_store(call: Call, request: v1.BackupStoreRequest) -> v1.BackupStoreResponse:
    """See AdminService.BackupStore. The job runs at this core, on whose machine the directory is."""
    settings = call.core.settings
    root = settings.backups_directory if call.caller.account_id else None
    target = await asyncio.to_thread(store_backup.permitted_directory, request.directory, root)
    start = partial(_start_backup, call=call, target=target, place=store_backup.place(settings.directory))
    started = await call.write(request, start, claims=())
    call.core.job_signals.started()
    return started


def _start_backup(tx: Connection, call: Call, target: Path, place: str) -> v1.BackupStoreResponse:
    # Looked at here, because a repeated request must get its job, although the directory is not empty any more.
    if backup_files.is_in_use(target):
        raise InvalidArgument(field="directory", problem="is not empty; name a new or an empty directory")
    new = NewJob(
        JobKind.BACKUP_STORE,
        _actor(call),
        request=v1.BackupStoreRequest(directory=str(target)).SerializeToString(),
        cursor=backup_files.new_owner().encode(),
        subject=str(target),
        place=place,
    )
    return v1.BackupStoreResponse(job=jobs.described(records.start(tx, new)))


@handlers.direct(methods.DELETE_ACCOUNT, rule=administrators)
async def delete_account(call: Call, request: v1.DeleteAccountRequest) -> v1.DeleteAccountResponse:
    """See AdminService.DeleteAccount. Addresses and sessions end in the transaction that starts the job."""
    started = await call.write(
        request,
        lambda tx: v1.DeleteAccountResponse(job=jobs.described(_start_deletion(tx, call, request.address))),
        claims=(),
        rows=DELETION_ROWS,
    )
    call.core.job_signals.started()
    return started


def _start_deletion(tx: Connection, call: Call, address: str) -> records.Job:
    actor = _actor(call)
    try:
        gone = lifecycle.remove(tx, address)
    except AccountNotFound:
        mailbox_id = _broken_off(tx, address)
    else:
        address, mailbox_id = gone.address, gone.mailbox_id
        if gone.account_id == actor.account_id:  # the account had the right to remove itself, and has none after that
            actor = Actor(actor.address, None)
    new = NewJob(
        JobKind.DELETE_ACCOUNT,
        actor,
        request=_request_of(address),
        subject=address,
        mailbox_id=mailbox_id,
        total=lifecycle.messages_left(tx, mailbox_id),
    )
    return records.start(tx, new)


def _broken_off(tx: Connection, address: str) -> int:
    """The mailbox that a failed or cancelled deletion of this address has left. Raises AccountNotFound."""
    try:
        mailbox_id = records.broken_off_deletion(tx, _request_of(address))
        if mailbox_id is not None:
            lifecycle.messages_left(tx, mailbox_id)
            return mailbox_id
    except (InvalidArgument, MailboxNotFound):
        pass
    raise AccountNotFound(account=address)


def _request_of(address: str) -> bytes:
    """The request that a deletion's row keeps: every spelling of an address gives the same."""
    return v1.DeleteAccountRequest(address=addresses.key(address)).SerializeToString(deterministic=True)


def _actor(call: Call) -> Actor:
    caller = call.caller
    return Actor(caller.address, caller.account_id) if caller.account_id else Actor(ADMIN, None)
