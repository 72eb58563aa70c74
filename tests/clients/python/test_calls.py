"""The additions of `Calls` to an RPC: one request id for all retries, the server's delays, read-your-writes, pages."""

from __future__ import annotations

import time

import pytest

from restante import errors
from restante.calls import Calls, request_id
from restante.session import UserSession
from restante.v1 import methods
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.folder_pb2 import (
    CreateFolderRequest,
    CreateFolderResponse,
    Folder,
    GetFolderRequest,
    GetFolderResponse,
    ListFoldersRequest,
    ListFoldersResponse,
)
from restante.v1.session_pb2 import AuthenticateRequest, RenewSessionResponse, Session
from restante.v1.types_pb2 import CommitToken
from tests.clients.python.conftest import Answer, Batches, Servers, answer, refusal


def in_turn(*results: errors.RestanteError | dict[str, object]) -> Answer:
    """Answers one after the other, with the last one repeated."""
    left = list(results)

    async def reply(operation: Operation) -> OperationResult | None:
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, errors.RestanteError):
            return refusal(operation, result)
        return answer(operation, **result)

    return reply


async def calls(servers: Servers, reply: Answer, *, timeout_seconds: float = 10.0) -> tuple[Calls, Batches]:
    core = await servers.batches(reply)
    link = await servers.link()
    session = UserSession(link, Session(session_token=b"token", mailbox_id=5, account_id=2, address="a@example.org"))
    return Calls(link, session, timeout_seconds=timeout_seconds), core


MADE: dict[str, object] = {
    "create_folder": CreateFolderResponse(
        folder=Folder(folder_id=9), commit=CommitToken(mailbox_id=5, change_number=70, epoch=1)
    )
}
FOUND: dict[str, object] = {"get_folder": GetFolderResponse(folder=Folder(folder_id=9))}


async def test_a_request_id_is_made_once_and_kept_across_retries(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(errors.StoreBusy(), errors.Draining(), MADE))
    request = CreateFolderRequest(path=["x"])
    await caller.execute(methods.CREATE_FOLDER, request)
    ids = [operation.create_folder.request_id for operation in core.operations]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert len(ids[0]) == 16
    assert request.request_id == b""  # the caller's request object does not change


async def test_two_calls_have_two_request_ids(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(MADE))
    for _ in range(2):
        await caller.execute(methods.CREATE_FOLDER, CreateFolderRequest(path=["x"]))
    assert len({operation.create_folder.request_id for operation in core.operations}) == 2


async def test_a_request_id_of_ones_own_is_left(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(MADE))
    await caller.execute(methods.CREATE_FOLDER, CreateFolderRequest(path=["x"], request_id=b"0123456789abcdef"))
    assert core.operations[0].create_folder.request_id == b"0123456789abcdef"


async def test_the_delay_that_the_server_asks_for_is_kept(servers: Servers) -> None:
    busy = errors.TooManyOperations(limit=64, retry_seconds=0.5)
    caller, core = await calls(servers, in_turn(busy, FOUND))
    began = time.monotonic()
    await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    assert time.monotonic() - began >= 0.5
    assert len(core.operations) == 2


@pytest.mark.parametrize("error", [errors.FolderNotFound(folder_id=9), errors.QuotaExceeded(), errors.Internal()])
async def test_what_does_not_pass_by_itself_is_not_tried_again(servers: Servers, error: errors.RestanteError) -> None:
    caller, core = await calls(servers, in_turn(error))
    with pytest.raises(type(error)):
        await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    assert len(core.operations) == 1


async def test_a_later_step_of_a_login_is_not_tried_again(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(errors.StoreBusy()))
    with pytest.raises(errors.StoreBusy):
        await caller.execute(methods.AUTHENTICATE, AuthenticateRequest(mechanism="LOGIN", exchange=b"sealed"))
    assert len(core.operations) == 1


async def test_the_deadline_covers_all_attempts(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(errors.StoreBusy()))
    began = time.monotonic()
    with pytest.raises(errors.StoreBusy):
        await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9), timeout=0.6)
    assert time.monotonic() - began < 2.0
    assert len(core.operations) > 1
    assert all(operation.timeout_milliseconds <= 600 for operation in core.operations)


async def test_reads_see_ones_own_writes(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(FOUND, MADE, FOUND))
    await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    await caller.execute(methods.CREATE_FOLDER, CreateFolderRequest(path=["x"]))
    await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9, mailbox_id=6))  # of another mailbox
    before, _, after, other = core.operations
    assert not before.get_folder.HasField("min_commit")
    assert after.get_folder.min_commit.change_number == 70
    assert not other.get_folder.HasField("min_commit")


async def test_after_a_restore_ones_own_writes_are_not_waited_for(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(MADE, errors.EpochChanged(epoch=2), FOUND))
    await caller.execute(methods.CREATE_FOLDER, CreateFolderRequest(path=["x"]))
    await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    assert [operation.get_folder.HasField("min_commit") for operation in core.operations[1:]] == [True, False]


async def test_a_token_of_ones_own_that_a_restore_voided_is_told(servers: Servers) -> None:
    caller, _ = await calls(servers, in_turn(errors.EpochChanged(epoch=2)))
    request = GetFolderRequest(folder_id=9, min_commit=CommitToken(mailbox_id=5, change_number=3, epoch=1))
    with pytest.raises(errors.EpochChanged):
        await caller.execute(methods.GET_FOLDER, request)


async def test_an_expired_token_is_renewed_once(servers: Servers) -> None:
    renewed: dict[str, object] = {"renew_session": RenewSessionResponse(session=Session(session_token=b"fresh"))}
    caller, core = await calls(servers, in_turn(errors.SessionExpired(), renewed, FOUND))
    await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    assert [operation.session_token for operation in core.operations] == [b"token", b"token", b"fresh"]


async def test_a_token_that_cannot_be_renewed_is_told(servers: Servers) -> None:
    caller, core = await calls(servers, in_turn(errors.SessionExpired()))
    with pytest.raises(errors.SessionExpired):
        await caller.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=9))
    assert len(core.operations) == 2


async def test_pages_follow_their_tokens(servers: Servers) -> None:
    async def reply(operation: Operation) -> OperationResult | None:
        page = int(operation.list_folders.page_token or "0")
        response = ListFoldersResponse(
            folders=[Folder(folder_id=page)], next_page_token=str(page + 1) if page < 3 else ""
        )
        return answer(operation, list_folders=response)

    caller, core = await calls(servers, reply)
    found = [page async for page in caller.pages(methods.LIST_FOLDERS, ListFoldersRequest(page_size=1))]
    assert [page.folders[0].folder_id for page in found] == [0, 1, 2, 3]
    assert len(core.operations) == 4


def test_request_ids_of_one_process_ascend_with_time_and_differ() -> None:
    ids = [request_id() for _ in range(1_000)]
    times = [one[:6] for one in ids]
    assert times == sorted(times)
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {16}
    assert abs(int.from_bytes(times[-1], "big") / 1_000 - time.time()) < 60
