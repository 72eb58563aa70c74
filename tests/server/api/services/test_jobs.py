"""JobService and the RPCs that start jobs, on a whole core."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, delete, insert, select, update

from restante import errors
from restante.calls import Calls
from restante.client import Client
from restante.jobs import Jobs
from restante.v1 import job_pb2 as v1
from restante.v1.admin_pb2 import (
    BackupStoreRequest,
    CheckStoreRequest,
    CreateAccountRequest,
    DeleteAccountRequest,
    UpdateAccountRequest,
)
from restante.v1.job_pb2 import JobKind, JobState
from restante.v1.message_pb2 import AppendMessageRequest
from restante_server.db import schema
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.store import removal
from restante_server.store.contents import Location
from restante_server.upkeep import backup, backup_files, check, sweeps
from restante_server.upkeep.jobs import records
from restante_server.upkeep.jobs.records import ADMIN, Actor, NewJob
from restante_server.upkeep.kinds import store_backup
from tests.server.api.served import DOMAIN, Served, request_id, served, token_metadata

together = pytest.mark.asyncio(loop_scope="module")

LETTER = b"Subject: hello\r\n\r\nHello.\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("jobs"))) as made:
        yield made
        assert await made.core.db.read(check.findings, made.core.contents.directory) == []


@pytest_asyncio.fixture(loop_scope="module")
async def jobs(core: Served) -> AsyncIterator[Jobs]:
    """The jobs as the administrators' tool of the core's machine has them."""
    link = await core.link("admin")
    yield Jobs(Calls(link))
    await link.close()


async def account(core: Served, name: str, messages: int, *, administrator: bool = False) -> int:
    """An account with a few messages; returns its mailbox."""
    request = CreateAccountRequest(
        address=f"{name}@{DOMAIN}", password=f"{name}-demo", administrator=administrator, request_id=request_id()
    )
    made = (await core.call("AdminService/CreateAccount", request, identity="admin")).account
    token = (await core.session(name)).session_token
    for _ in range(messages):
        append = AppendMessageRequest(folder_id=1, content=LETTER, request_id=request_id())
        await core.call("MessageService/AppendMessage", append, token=token)
    return int(made.mailbox_id)


async def mailbox_rows(core: Served, mailbox_id: int) -> int:
    """The rows of a mailbox and its messages."""

    def count(tx: Connection) -> int:
        messages = select(schema.message.c.message_id).where(schema.message.c.mailbox_id == mailbox_id)
        mailbox = select(schema.mailbox.c.mailbox_id).where(schema.mailbox.c.mailbox_id == mailbox_id)
        return len(tx.execute(messages).all()) + len(tx.execute(mailbox).all())

    found: int = await core.core.db.read(count)
    return found


async def idle_job(core: Served, new: NewJob | None = None) -> int:
    """A job that no core runs, as one of a core that is away."""
    elsewhere = new or NewJob(records.JobKind.BACKUP_STORE, Actor(ADMIN, None), place="another core")
    job: records.Job = await core.core.db.write(Write(partial(records.start, new=elsewhere)))
    return job.job_id


# --- Checks -----------------------------------------------------------------------------------------------------------


@together
async def test_the_findings_of_a_check_are_read_page_by_page_and_watched_once_each(core: Served, jobs: Jobs) -> None:
    digest = hashlib.sha256(b"octets").digest()

    def damage(tx: Connection) -> None:
        for number in range(250):
            facts = {"digest": digest, "size_octets": 6, "place": Location.FILE, "file_name": f"00/{number:032x}"}
            row = {**facts, "state": 1, "structure": b"", "created_at": 1}
            made = tx.execute(insert(schema.content).values(row).returning(schema.content.c.content_id))
            pin = {"content_id": made.scalar_one(), "pin_id": 7, "expires_at": 1 << 62}
            tx.execute(insert(schema.content_pin).values(pin))

    def mend(tx: Connection) -> None:
        lost = [
            row.content_id for row in tx.execute(select(schema.content_pin).where(schema.content_pin.c.pin_id == 7))
        ]
        tx.execute(delete(schema.content_pin).where(schema.content_pin.c.pin_id == 7))
        tx.execute(delete(schema.content).where(schema.content.c.content_id.in_(lost)))

    await core.core.db.write(Write(damage))
    try:
        sound = await jobs.wait((await jobs.check_store()).job_id)
        job = await jobs.wait((await jobs.check_store(digests=True)).job_id)
    finally:
        await core.core.db.write(Write(mend))
    assert (sound.finding_count, sound.done, sound.total) == (0, len(check.INVARIANTS), len(check.INVARIANTS))
    assert (job.state, job.finding_count, job.unit) == (JobState.JOB_STATE_SUCCEEDED, 250, v1.JobUnit.JOB_UNIT_CHECKS)
    assert job.done == job.total >= 250 + len(check.INVARIANTS)
    found = [finding async for finding in jobs.findings(job.job_id)]
    assert [finding.finding_number for finding in found] == list(range(1, 251))
    assert all("cannot be read" in finding.problem for finding in found)
    seen = [step async for step in jobs.watch(job.job_id, after_finding=100)]
    assert [each.finding_number for step in seen for each in step.findings] == list(range(101, 251))


@together
async def test_a_repeated_request_gets_the_same_job(core: Served, jobs: Jobs) -> None:
    request = CheckStoreRequest(request_id=request_id())
    first = await core.call("AdminService/CheckStore", request, identity="admin")
    await jobs.wait(first.job.job_id)
    assert await core.call("AdminService/CheckStore", request, identity="admin") == first
    request.digests = True
    with pytest.raises(errors.RequestIdReused):
        await core.call("AdminService/CheckStore", request, identity="admin")


@together
async def test_jobs_are_listed_latest_first_by_kind_and_by_state(core: Served, jobs: Jobs) -> None:
    waiting = await idle_job(core)
    job = await jobs.wait((await jobs.check_store()).job_id)
    listed = [each.job_id async for each in jobs.list()]
    assert listed == sorted(listed, reverse=True) and {waiting, job.job_id} <= set(listed)
    assert waiting not in [each.job_id async for each in jobs.list(kind=JobKind.JOB_KIND_CHECK_STORE)]
    assert [each.job_id async for each in jobs.list(unfinished=True)] == [waiting]
    assert (await jobs.cancel(waiting)).state == JobState.JOB_STATE_CANCELLED
    for call in (jobs.get(999_999), jobs.cancel(999_999), anext(aiter(jobs.findings(999_999)))):
        with pytest.raises(errors.JobNotFound):
            await call
    with pytest.raises(errors.JobNotFound):
        await anext(aiter(jobs.watch(999_999)))


@together
async def test_a_watcher_sees_a_change_by_another_core(core: Served, jobs: Jobs) -> None:
    """The change reaches the row alone, without a signal."""
    job_id = await idle_job(core)
    watching = asyncio.create_task(jobs.wait(job_id))
    await asyncio.sleep(0.3)
    await core.core.db.write(Write(partial(records.cancel, job_id=job_id)))
    with pytest.raises(errors.Cancelled):
        await asyncio.wait_for(watching, 3)


# --- Accounts ---------------------------------------------------------------------------------------------------------


@together
async def test_the_mailbox_of_a_removed_account_goes_with_the_job(core: Served, jobs: Jobs) -> None:
    mailbox_id = await account(core, "dave", 5)
    begun = await jobs.delete_account(f"Dave@{DOMAIN}")
    assert (begun.kind, begun.subject, begun.total) == (JobKind.JOB_KIND_DELETE_ACCOUNT, f"dave@{DOMAIN}", 5)
    with pytest.raises(errors.AuthenticationFailed):
        await core.session("dave")
    job = await jobs.wait(begun.job_id)
    assert (job.done, job.total, job.actor) == (5, 5, "admin")
    assert await mailbox_rows(core, mailbox_id) == 0


@together
async def test_a_cancelled_deletion_stops_and_the_same_request_goes_on(
    core: Served, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the mailbox stays meanwhile, although it has no owner."""
    mailbox_id = await account(core, "erin", 4)
    held = threading.Event()
    whole = removal.delete_mailbox

    def slow(tx: Connection, place: Any, most: int, now: int) -> int:
        held.wait(0.5)
        return whole(tx, place, 1, now)

    monkeypatch.setattr(removal, "delete_mailbox", slow)
    job_id = (await jobs.delete_account(f"erin@{DOMAIN}")).job_id
    await asyncio.sleep(0.7)
    await jobs.cancel(job_id)
    with pytest.raises(errors.Cancelled):
        await asyncio.wait_for(jobs.wait(job_id), 3)
    left = await mailbox_rows(core, mailbox_id)
    assert 1 < left <= 5
    held.set()
    assert await sweeps.purge_ownerless(core.core.db, 0) == 0
    following = await jobs.wait((await jobs.delete_account(f"ERIN@{DOMAIN}")).job_id)
    assert (following.done, await mailbox_rows(core, mailbox_id)) == (left - 1, 0)
    with pytest.raises(errors.AccountNotFound):
        await jobs.delete_account(f"erin@{DOMAIN}")


@together
async def test_an_administrator_may_remove_the_own_account(core: Served) -> None:
    mailbox_id = await account(core, "frank", 1, administrator=True)
    token = (await core.session("frank")).session_token
    request = DeleteAccountRequest(address=f"frank@{DOMAIN}", request_id=request_id())
    job = (await core.call("AdminService/DeleteAccount", request, token=token)).job
    assert job.actor == f"frank@{DOMAIN}"
    link = await core.link("admin")
    await Jobs(Calls(link)).wait(job.job_id)
    await link.close()
    assert await mailbox_rows(core, mailbox_id) == 0


@together
async def test_a_job_ends_when_its_administrator_is_one_no_longer(
    core: Served, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await account(core, "grace", 0, administrator=True)
    token = (await core.session("grace")).session_token

    def write(*arguments: Any) -> None:
        for done in range(2_000):
            arguments[4](done, 2_000)
            threading.Event().wait(0.01)

    monkeypatch.setattr(backup, "write", write)
    metadata = token_metadata(token)
    request = BackupStoreRequest(directory=str(core.directory / "backups" / "graces"), request_id=request_id())
    job = (await core.stub("AdminService/BackupStore")(request, metadata=metadata, timeout=20)).job
    await asyncio.sleep(1.5)
    running = await jobs.get(job.job_id)
    assert (running.state, running.done > 0) == (JobState.JOB_STATE_RUNNING, True)
    less = UpdateAccountRequest(address=f"grace@{DOMAIN}", administrator=False)
    await core.call("AdminService/UpdateAccount", less, identity="admin")
    with pytest.raises(errors.PermissionDenied):
        await asyncio.wait_for(jobs.wait(job.job_id), 5)


# --- Backups ----------------------------------------------------------------------------------------------------------


async def interrupted_backup(core: Served, directory: Path) -> int:
    """A backup whose core died while it wrote: a part of it is in the directory, and its lease has expired."""
    owner = backup_files.new_owner()
    new = NewJob(
        records.JobKind.BACKUP_STORE,
        Actor(ADMIN, None),
        request=BackupStoreRequest(directory=str(directory)).SerializeToString(),
        cursor=owner.encode(),
        subject=str(directory),
        place=store_backup.place(core.directory),
    )
    backup_files.claim_directory(directory, owner)
    (directory / "store.db").write_bytes(b"half a database")
    (directory / "contents" / "0a").mkdir(parents=True)
    (directory / "contents" / "0a" / ("0a" * 16)).write_bytes(b"half a content")

    def die(tx: Connection) -> int:
        job = records.start(tx, new)
        past = now_microseconds(tx) - 1
        state = {"state": records.JobState.RUNNING, "lease_id": 1, "lease_expires_at": past, "started_at": past}
        tx.execute(update(schema.job).where(schema.job.c.job_id == job.job_id).values(state))
        return job.job_id

    job_id: int = await core.core.db.write(Write(die))
    return job_id


@together
async def test_an_interrupted_backup_begins_anew_in_its_directory(core: Served, jobs: Jobs, tmp_path: Path) -> None:
    directory = tmp_path / "backup"
    job = await jobs.wait(await interrupted_backup(core, directory))
    assert job.state == JobState.JOB_STATE_SUCCEEDED and job.done == job.total > 0
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "store.db"]
    assert (directory / "store.db").read_bytes().startswith(b"SQLite format 3")


@together
@pytest.mark.parametrize("foreign", ["notes.txt", "contents/0a/notes.txt", "tables/link.copy", "incomplete"])
async def test_an_interrupted_backup_removes_nothing_that_it_has_not_written(
    core: Served, jobs: Jobs, tmp_path: Path, foreign: str
) -> None:
    directory, other = tmp_path / "backup", tmp_path / "of somebody else"
    other.write_text("kept")
    watched = asyncio.create_task(interrupted_backup(core, directory))
    while not (directory / "contents" / "0a").exists():
        await asyncio.sleep(0)
    path = directory / foreign
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if "link" in foreign:
        path.symlink_to(other)
    else:
        path.write_text("somebody else's")
    before = sorted(directory.rglob("*"))
    with pytest.raises(errors.BackupFailed):
        await jobs.wait(await watched)
    assert sorted(directory.rglob("*")) == before and other.read_text() == "kept"


@together
async def test_a_cancelled_backup_leaves_its_directory_empty(
    core: Served, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = backup_files.sync
    monkeypatch.setattr(backup, "sync", lambda path: (threading.Event().wait(0.8), sync(path)))
    job_id = (await jobs.back_up_store(str(tmp_path / "backup"))).job_id
    async with asyncio.timeout(10):
        while not (tmp_path / "backup" / "manifest.json").exists():
            await asyncio.sleep(0.05)
    await jobs.cancel(job_id)
    with pytest.raises(errors.Cancelled):
        await asyncio.wait_for(jobs.wait(job_id), 4)
    assert list((tmp_path / "backup").iterdir()) == []


# --- Clients ----------------------------------------------------------------------------------------------------------


@together
async def test_an_interrupt_leaves_the_job_running(core: Served, jobs: Jobs) -> None:
    job_id = await idle_job(core)
    command = [
        sys.executable,
        "-m",
        "restante_cli",
        "admin",
        "--data",
        str(core.directory),
        "job",
        "watch",
        str(job_id),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    watchers = core.core.job_signals._watchers
    async with asyncio.timeout(30):
        while job_id not in watchers:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = asyncio.create_task(process.communicate())
    done, _ = await asyncio.wait([output], timeout=20)
    if not done:
        process.send_signal(signal.SIGABRT)  # its threads show where they are
    _, told = await output
    assert process.returncode == 1, told.decode()
    assert f"restante admin job watch {job_id}" in told.decode() and b"Traceback" not in told
    assert (await jobs.cancel(job_id)).state == JobState.JOB_STATE_CANCELLED


@together
async def test_a_native_client_of_an_administrator_has_jobs(core: Served) -> None:
    async with Client.connect(
        core.tls_address,
        user=f"alice@{DOMAIN}",
        password="alice-demo",
        root_certificates=core.authority.certificate,
    ) as alice:
        job = await alice.jobs.wait((await alice.jobs.check_store()).job_id)
        assert (job.actor, job.finding_count) == (f"alice@{DOMAIN}", 0)


@together
async def test_the_figures_of_jobs(core: Served, jobs: Jobs) -> None:
    def sample(name: str, **labels: str) -> float:
        return core.process.registry.get_sample_value(name, labels) or 0.0

    before = sample("restante_jobs_ended_total", kind="check_store", state="succeeded")
    await jobs.wait((await jobs.check_store()).job_id)
    assert sample("restante_jobs_ended_total", kind="check_store", state="succeeded") == before + 1
    assert sample("restante_jobs_running", kind="check_store") == 0
