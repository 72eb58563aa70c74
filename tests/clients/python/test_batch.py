"""Batches of the Python SDK: fields of pending results as arguments, outcomes, and repetition as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante import Client, SyncClient, Target, errors
from restante.batch import Batch
from restante.calls import Calls
from restante.sync_client import SyncBatch
from restante.v1 import methods
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.folder_pb2 import (
    CreateFolderRequest,
    CreateFolderResponse,
    DeleteFolderRequest,
    DeleteFolderResponse,
    Folder,
    GetFolderRequest,
)
from restante.v1.message_pb2 import MoveMessagesRequest, QueryMessagesRequest
from restante.v1.session_pb2 import AuthenticateRequest, RenewSessionResponse, Session
from restante.v1.types_pb2 import CommitToken
from tests.clients.python.conftest import Answer, Servers, answer, refusal
from tests.clients.python.test_calls import calls
from tests.server.api.served import DOMAIN, Served, served


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


async def test_a_repetition_that_finds_other_messages_moves_none_of_them(core: Served) -> None:
    async with Client.connect(Target(core.unix), user=f"bob@{DOMAIN}", password="bob-demo") as me:
        inbox, archive = await me.folders.get("INBOX"), await me.folders.get("Archive")
        first = await me.messages.append(inbox, b"Subject: First\r\n\r\n")
        batch = me.batch()
        found = batch.add(methods.QUERY_MESSAGES, QueryMessagesRequest(folder_id=inbox.folder_id))
        moved = batch.add(
            methods.MOVE_MESSAGES,
            MoveMessagesRequest(target_folder_id=archive.folder_id),
            {"messages.ids.message_ids": found["rows.message_ids"]},
        )
        await batch.run()
        second = await me.messages.append(inbox, b"Subject: Second\r\n\r\n")
        answer = moved.response
        await batch.run()
        assert moved.response == answer
        assert [message.message_id async for message in me.messages.query("Archive")] == [first.message_id]
        assert [message.message_id async for message in me.messages.query("INBOX")] == [second.message_id]


async def test_a_failure_is_raised_and_each_operation_has_its_outcome(core: Served) -> None:
    async with Client.connect(Target(core.unix), user=f"bob@{DOMAIN}", password="bob-demo") as me:
        batch = me.batch()
        made = batch.add(methods.CREATE_FOLDER, CreateFolderRequest(path=["Inbox"]))
        gone = batch.add(methods.DELETE_FOLDER, DeleteFolderRequest(), {"folder_id": made["folder.folder_id"]})
        seen = batch.add(methods.GET_FOLDER, GetFolderRequest(path=["Inbox"]), independent=True)
        with pytest.raises(RuntimeError, match="not run yet"):
            _ = made.response
        with pytest.raises(errors.FolderExists):
            await batch.run()
        assert isinstance(made.error, errors.FolderExists)
        with pytest.raises(errors.OperationReferenceFailed):
            _ = gone.response
        assert seen.error is None and seen.response.folder.path == ["Inbox"]


def deleting(batch: Batch | SyncBatch) -> None:
    """Make a folder and delete it again."""
    made = batch.add(methods.CREATE_FOLDER, CreateFolderRequest(path=["x"]))
    batch.add(methods.DELETE_FOLDER, DeleteFolderRequest(), {"folder_id": made["folder.folder_id"]})


def folders(seen: list[Operation], *failures: errors.RestanteError) -> Answer:
    """Answers to folder operations; the first ones fail so."""
    left = list(failures)

    async def reply(operation: Operation) -> OperationResult | None:
        copy = Operation()
        copy.CopyFrom(operation)
        seen.append(copy)
        if operation.HasField("renew_session"):
            session = Session(session_token=b"fresh", mailbox_id=5, account_id=2)
            return answer(operation, renew_session=RenewSessionResponse(session=session))
        if left:
            return refusal(operation, left.pop(0))
        if operation.HasField("create_folder"):
            commit = CommitToken(mailbox_id=5, change_number=70, epoch=1)
            return answer(operation, create_folder=CreateFolderResponse(folder=Folder(folder_id=9), commit=commit))
        return answer(operation, delete_folder=DeleteFolderResponse())

    return reply


async def test_a_batch_is_repeated_as_a_whole_with_the_same_request_ids(servers: Servers) -> None:
    seen: list[Operation] = []
    caller, _ = await calls(servers, folders(seen, errors.StoreBusy(), errors.OperationReferenceFailed()))
    batch = Batch(caller)
    deleting(batch)
    await batch.run()
    await batch.run()  # a program may send it once more
    assert [operation.WhichOneof("request") for operation in seen] == ["create_folder", "delete_folder"] * 3
    ids = {operation.create_folder.request_id for operation in seen if operation.HasField("create_folder")}
    assert len(ids) == 1 and len(ids.pop()) == 16
    assert [reference.operation_id for reference in seen[1].references] == [1]
    assert all(operation.session_token == b"token" for operation in seen)
    commit = caller.min_commit()
    assert commit is not None and commit.change_number == 70


async def test_an_expired_session_is_renewed_once(servers: Servers) -> None:
    seen: list[Operation] = []
    caller, _ = await calls(servers, folders(seen, errors.SessionExpired(), errors.SessionExpired()))
    batch = Batch(caller)
    deleting(batch)
    await batch.run()
    assert [operation.session_token for operation in seen] == [b"token"] * 3 + [b"fresh"] * 2


async def test_a_lasting_failure_ends_at_the_deadline(servers: Servers) -> None:
    seen: list[Operation] = []
    caller, _ = await calls(servers, folders(seen, *[errors.StoreBusy()] * 100))
    batch = Batch(caller)
    deleting(batch)
    with pytest.raises(errors.StoreBusy):
        await batch.run(timeout=0.3)
    assert 4 <= len(seen) <= 20
    assert all(0 < operation.timeout_milliseconds <= 300 for operation in seen)


async def test_a_batch_with_a_later_sasl_step_is_sent_once(servers: Servers) -> None:
    seen: list[Operation] = []
    caller, _ = await calls(servers, folders(seen, errors.StoreBusy()))
    batch = Batch(caller)
    deleting(batch)
    batch.add(methods.AUTHENTICATE, AuthenticateRequest(mechanism="PLAIN", exchange=b"sealed"))
    with pytest.raises(errors.StoreBusy):
        await batch.run()
    assert len(seen) == 3


async def test_a_server_that_is_away_fails_every_operation(servers: Servers) -> None:
    caller = Calls(await servers.link(), timeout_seconds=0.2)
    batch = Batch(caller)
    made = batch.add(methods.GET_FOLDER, GetFolderRequest(folder_id=1))
    with pytest.raises(errors.RestanteError):
        await batch.run()
    assert made.error is not None


async def test_a_field_of_another_batch_is_refused_at_once(servers: Servers) -> None:
    caller = Calls(await servers.link())
    other = Batch(caller).add(methods.GET_FOLDER, GetFolderRequest(folder_id=1))
    with pytest.raises(ValueError, match="not in this batch"):
        Batch(caller).add(methods.DELETE_FOLDER, DeleteFolderRequest(), {"folder_id": other["folder.folder_id"]})


async def test_programs_without_an_event_loop_have_the_same_batch(core: Served) -> None:
    def program() -> int:
        with SyncClient.connect(Target(core.unix), user=f"bob@{DOMAIN}", password="bob-demo") as me:
            batch = me.batch()
            deleting(batch)
            batch.run()
            return len([folder for folder in me.folders.list() if folder.display_name == "x"])

    assert await asyncio.to_thread(program) == 0
