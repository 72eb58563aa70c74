"""The change numbers of followed folders include every acknowledged change, for every kind of change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from restante import errors
from restante.v1 import content_pb2, folder_pb2, message_pb2, submission_pb2, transport_pb2
from restante.v1.folder_pb2 import FollowedFolder, GetChangeNumbersRequest, GetFolderRequest
from restante.v1.message_pb2 import MessageSet
from restante.v1.session_pb2 import Scope
from restante.v1.types_pb2 import IdRange, UidSet
from restante_server import app, opening
from restante_server.api.engine.followed import MOST_KNOWN, ChangeNumbers, Read
from restante_server.db.engine import open_database
from restante_server.db.prepared import Lookup
from restante_server.store import changes
from restante_server.store.changes import Touched
from tests.harness.faults import DatabaseFaults, raising
from tests.harness.postgres import PostgresServer
from tests.server.api.served import Served, operation, request_id, served
from tests.server.conftest import BOTH

INBOX = 1
MESSAGE = b"From: alice@example.test\r\nTo: bob@example.test\r\nSubject: news\r\n\r\nhello\r\n"


@dataclass
class House:
    """A core, bob's session, and the recorded reads of change numbers."""

    core: Served
    token: bytes
    reads: list[set[changes.FolderKey]] = field(default_factory=list)
    folders: set[int] = field(default_factory=set)

    async def call(self, rpc: str, request: Any) -> Any:
        return await self.core.call(rpc, request, token=self.token)

    async def numbers(self, *folder_ids: int) -> list[int]:
        """The change numbers from GetChangeNumbers; 0 for a missing folder."""
        request = GetChangeNumbersRequest(folders=[FollowedFolder(folder_id=folder_id) for folder_id in folder_ids])
        answer = await self.call("FolderService/GetChangeNumbers", request)
        refused = {each.index: errors.from_status(each.status) for each in answer.refused}
        assert {index for index, number in enumerate(answer.change_numbers) if not number} == refused.keys()
        assert all(isinstance(error, errors.FolderNotFound) for error in refused.values())
        return list(answer.change_numbers)

    async def agree(self) -> None:
        """Check that the reported number of every folder is the store's, also beside folders that were deleted."""
        listed = await self.call("FolderService/ListFolders", folder_pb2.ListFoldersRequest(page_size=1000))
        stored = {folder.folder_id: folder.change_number for folder in listed.folders}
        self.folders |= stored.keys()
        told = dict(zip(sorted(self.folders), await self.numbers(*sorted(self.folders)), strict=True))
        for folder_id, number in stored.items():
            assert told[folder_id] == number, folder_id

    async def append(self, folder_id: int = INBOX, request: bytes = b"") -> int:
        wanted = message_pb2.AppendMessageRequest(
            folder_id=folder_id, content=MESSAGE, request_id=request or request_id()
        )
        return int((await self.call("MessageService/AppendMessage", wanted)).commit.change_number)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[set[changes.FolderKey]]:
    made: list[set[changes.FolderKey]] = []
    real = changes.of_folders

    def counted(places: set[changes.FolderKey]) -> Lookup:
        made.append(places)
        return real(places)

    monkeypatch.setattr(changes, "of_folders", counted)
    return made


@pytest.fixture(params=BOTH)
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database; "" for SQLite in the data directory."""
    if request.param == "sqlite":
        yield ""
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.fixture
async def house(tmp_path: Path, store_url: str, reads: list[set[changes.FolderKey]]) -> AsyncIterator[House]:
    async with served(tmp_path, STORE__URL=store_url) as core:
        yield House(core, (await core.session("bob")).session_token, reads)


def uids(first: int, last: int = 0, folder_id: int = INBOX) -> MessageSet:
    return MessageSet(uids=UidSet(folder_id=folder_id, ranges=[IdRange(first=first, last=last or first)]))


async def accept(house: House) -> None:
    begin = transport_pb2.AcceptBegin(
        request_id=request_id(),
        reverse_path="someone@example.org",
        recipients=[submission_pb2.EnvelopeRecipient(forward_path="bob@example.test")],
        trace_field="Received: from a by b; Mon, 23 Nov 2026 20:00:00 +0000\r\n",
    )
    request = transport_pb2.AcceptMessageRequest(start=begin, content=MESSAGE)
    await house.core.call("TransportService/AcceptMessage", request, identity="smtp")


async def submit_a_draft(house: House) -> None:
    """Submit a draft: its removal, the Sent copy and the delivery change three folders in one transaction."""
    draft = message_pb2.Draft(to=[{"address": "bob@example.test"}], subject="to myself", text="hello")  # type: ignore[list-item]
    made = await house.call(
        "MessageService/CreateDraft", message_pb2.CreateDraftRequest(draft=draft, request_id=request_id())
    )
    await house.agree()
    recipients = [submission_pb2.EnvelopeRecipient(forward_path="bob@example.test")]
    submit = submission_pb2.SubmitMessageRequest(
        request_id=request_id(), message_id=made.message_id, recipients=recipients
    )
    await house.call("SubmissionService/SubmitMessage", submit)


async def upload(house: House) -> None:
    chunk = content_pb2.UploadChunkRequest(
        kind=content_pb2.UPLOAD_KIND_MESSAGE, octets=MESSAGE, last=True, request_id=request_id()
    )
    uploaded = await house.call("ContentService/UploadChunk", chunk)
    append = message_pb2.AppendMessageRequest(
        folder_id=INBOX, upload_id=uploaded.upload_id, request_id=request_id(), keywords=["$Later"]
    )
    await house.call("MessageService/AppendMessage", append)


async def folders_come_and_go(house: House) -> None:
    create = folder_pb2.CreateFolderRequest(path=["a", "b", "c"], request_id=request_id())
    folder_id = (await house.call("FolderService/CreateFolder", create)).folder.folder_id
    await house.agree()
    await house.append(folder_id)
    await house.agree()
    await house.call("FolderService/MoveFolder", folder_pb2.MoveFolderRequest(folder_id=folder_id, path=["x", "y"]))
    await house.agree()
    (before,) = await house.numbers(folder_id)
    await house.call("FolderService/DeleteFolder", folder_pb2.DeleteFolderRequest(folder_id=folder_id))
    (after,) = await house.numbers(folder_id)
    assert after == 0 or after > before, "who has a view of it learns that it is out of date"


async def recover(house: House) -> None:
    listed = await house.call(
        "MessageService/ListRecoverableMessages", message_pb2.ListRecoverableMessagesRequest(page_size=2)
    )
    first, second = (message.message_id for message in listed.messages)
    await house.call(
        "MessageService/RecoverMessages", message_pb2.RecoverMessagesRequest(message_ids=[first], target_folder_id=3)
    )
    await house.agree()
    await house.call(
        "MessageService/PurgeRecoverableMessages", message_pb2.PurgeRecoverableMessagesRequest(message_ids=[second])
    )


def change(rpc: str, **values: Any) -> Callable[[House], Awaitable[None]]:
    async def made(house: House) -> None:
        await house.call(f"MessageService/{rpc}", getattr(message_pb2, f"{rpc}Request")(**values))

    return made


ADD, REMOVE = message_pb2.FLAG_OPERATION_ADD, message_pb2.FLAG_OPERATION_REMOVE
SOFT, HARD, TRASH = message_pb2.DELETE_MODE_SOFT, message_pb2.DELETE_MODE_HARD, message_pb2.DELETE_MODE_TO_TRASH
CHANGES: list[Callable[[House], Awaitable[Any]]] = [
    *[House.append] * 8,
    accept,
    submit_a_draft,
    upload,
    change("UpdateMessages", messages=uids(1, 3), operation=ADD, flags=1),
    change("UpdateMessages", messages=uids(1, 3), operation=ADD, flags=1),  # which changes nothing
    change("UpdateMessages", messages=uids(2), operation=ADD, keywords=["$Work"]),
    change("UpdateMessages", messages=uids(2), operation=REMOVE, keywords=["$Work"]),
    change("BatchGetMessages", messages=uids(4), mark_seen=True),
    change("CopyMessages", messages=uids(1, 2), target_folder_id=3, request_id=b"1" * 16),
    change("CopyMessages", messages=uids(1, 2), target_folder_id=INBOX, request_id=b"2" * 16),
    change("MoveMessages", messages=uids(2), target_folder_id=4, request_id=b"3" * 16),
    change("MoveMessages", messages=uids(3), target_folder_id=INBOX, request_id=b"4" * 16),
    change("DeleteMessages", messages=uids(4), mode=SOFT),
    change("DeleteMessages", messages=uids(5), mode=HARD),
    change("DeleteMessages", messages=uids(6), mode=TRASH),
    change("DeleteMessages", messages=uids(7, 8), mode=SOFT),
    change("DeleteMessages", messages=uids(90), mode=SOFT),
    recover,
    folders_come_and_go,
]


async def test_after_every_kind_of_change_the_number_is_the_folders_own(house: House) -> None:
    await house.agree()
    for made in CHANGES:
        await made(house)
        await house.agree()


async def test_a_core_that_is_alone_reads_a_folder_once_and_others_each_time(house: House) -> None:
    for _ in range(5):
        number = await house.append()
        assert await house.numbers(INBOX, INBOX) == [number, number]
    assert len(house.reads) == (1 if house.core.core.db.alone else 5)


async def test_many_who_ask_at_once_are_answered_by_one_read(house: House) -> None:
    asked = [
        operation("FolderService/GetFolder", GetFolderRequest(folder_id=2), operation_id=number)
        for number in range(1, 31)
    ]
    for at, each in enumerate(asked):
        each.session_token, each.independent, each.followed_folder_id = house.token, True, at % 6 + 1
    await house.append()  # from here on the session is known
    house.reads.clear()
    results = await house.core.operate(*asked)
    assert all(result.followed_change_number for result in results)
    assert len(house.reads) == 1


async def test_no_acknowledgement_is_ahead_of_the_number(house: House) -> None:
    async def work(folder_id: int) -> None:
        for _ in range(12):
            number = await house.append(folder_id)
            (told,) = await house.numbers(folder_id)
            assert told >= number

    async with asyncio.TaskGroup() as group:
        for folder_id in (1, 1, 1, 2, 3):
            group.create_task(work(folder_id))


async def test_a_bad_session_answers_for_its_own_folder_alone(house: House) -> None:
    pop3 = await house.core.session("bob", Scope.SCOPE_POP3)
    number = await house.append()
    request = GetChangeNumbersRequest(
        folders=[
            FollowedFolder(session_token=b"no such token", folder_id=INBOX),
            FollowedFolder(session_token=pop3.session_token, folder_id=INBOX),
            FollowedFolder(folder_id=INBOX),
            FollowedFolder(folder_id=999),
        ]
    )
    answer = await house.call("FolderService/GetChangeNumbers", request)
    assert list(answer.change_numbers) == [0, 0, number, 0] and answer.epoch == 1
    assert [(each.index, errors.from_status(each.status).reason) for each in answer.refused] == [
        (0, "INVALID_SESSION"),
        (1, "PERMISSION_DENIED"),
        (3, "FOLDER_NOT_FOUND"),
    ]


async def test_a_gateway_asks_for_its_sessions_and_a_request_has_a_bound(house: House) -> None:
    imap = (await house.core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    number = await house.append()
    many = GetChangeNumbersRequest(folders=[FollowedFolder(session_token=imap, folder_id=INBOX)] * 256)
    answer = await house.core.call("FolderService/GetChangeNumbers", many, identity="imap")
    assert list(answer.change_numbers) == [number] * 256
    refused = GetChangeNumbersRequest(folders=[FollowedFolder(session_token=b"x" * 64, folder_id=INBOX)] * 256)
    (result,) = await house.core.operate(operation("FolderService/GetChangeNumbers", refused), identity="imap")
    assert len(result.get_change_numbers.refused) == 256, "all refused, and yet no RESULT_TOO_LARGE"
    many.folders.add(session_token=imap, folder_id=INBOX)
    with pytest.raises(errors.InvalidArgument):
        await house.core.call("FolderService/GetChangeNumbers", many, identity="imap")


async def test_an_operation_returns_the_followed_folders_number_whatever_its_outcome(house: House) -> None:
    number = await house.append()

    async def follow(rpc: str, request: Any, **followed: int) -> tuple[int, bool]:
        (result,) = await house.core.operate(operation(rpc, request, token=house.token, **followed))
        return result.followed_change_number, result.HasField("status")

    there, missing = GetFolderRequest(folder_id=2), GetFolderRequest(folder_id=999)
    assert await follow("FolderService/GetFolder", there, followed_folder_id=INBOX) == (number, False)
    assert await follow("FolderService/GetFolder", missing, followed_folder_id=INBOX) == (number, True)
    assert await follow("FolderService/GetFolder", there) == (0, False)
    assert await follow("FolderService/GetFolder", there, followed_folder_id=999) == (0, False)


async def test_a_number_that_cannot_be_read_does_not_undo_the_answer_that_it_comes_with(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = changes.of_folders

    def fails(_rows: Any) -> None:
        raise ValueError("a fault while numbers are read")

    monkeypatch.setattr(changes, "of_folders", lambda places: replace(real(places), found=fails))
    wanted = message_pb2.AppendMessageRequest(folder_id=INBOX, content=MESSAGE, request_id=request_id())
    followed = operation("MessageService/AppendMessage", wanted, token=house.token, followed_folder_id=2)
    (result,) = await house.core.operate(followed)
    assert result.append_message.commit.change_number and not result.followed_change_number
    assert "a fault while" in caplog.text


async def test_an_append_returns_the_folders_number_before_it(house: House) -> None:
    first = await house.append()
    await house.append(folder_id=2)
    wanted = message_pb2.AppendMessageRequest(folder_id=INBOX, content=MESSAGE, request_id=request_id())
    answers = [await house.call("MessageService/AppendMessage", wanted) for _ in range(2)]  # the second is a repetition
    assert [answer.since_change_number for answer in answers] == [first, first]
    assert answers[0].commit.change_number > first + 1


async def test_a_commit_in_doubt_is_announced_once_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the commit is lost; the client repeats the request id, and gets the first answer."""
    faults = DatabaseFaults()

    def open_store(settings: Any, observer: Any) -> Any:
        return open_database(
            settings.store_url, settings=opening.database_settings(settings), observer=observer, faults=faults
        )

    monkeypatch.setattr(app, "open_store", open_store)
    async with served(tmp_path) as core:
        house = House(core, (await core.session("bob")).session_token)
        await house.agree()
        faults.after = [raising(OSError("the answer was lost"))]
        request = request_id()
        with pytest.raises(errors.RestanteError):
            await house.append(request=request)
        number = await house.append(request=request)
        assert await house.numbers(INBOX) == [number]
        await house.agree()


class Reading:
    """Reads whose answers a test releases."""

    def __init__(self) -> None:
        self.made: list[tuple[Callable[[], Read], asyncio.Future[Any]]] = []

    def begin(self, read: Callable[[], Read]) -> asyncio.Future[Any]:
        self.made.append((read, asyncio.get_running_loop().create_future()))
        return self.made[-1][1]

    async def answer(self, numbers: dict[tuple[int, int], int]) -> None:
        read, future = self.made.pop()
        read()
        future.set_result(numbers)
        await asyncio.sleep(0)


async def test_what_is_committed_while_a_folder_is_read_is_not_lost() -> None:
    reading = Reading()
    numbers = ChangeNumbers(reading.begin, alone=True)
    first, second = numbers.of((1, 7)), numbers.of((1, 7))
    assert not isinstance(first, int) and not isinstance(second, int) and len(reading.made) == 1
    numbers.note({1: Touched(9, {7: 9, 8: 9})})
    await reading.answer({(1, 7): 5})
    assert (await first, await second, numbers.of((1, 7))) == (9, 9, 9)
    numbers.note({1: Touched(12, {7: 11, 8: 12})})  # each folder has its own number
    numbers.note({1: Touched(10, {7: 10})})  # reported late
    assert numbers.of((1, 7)) == 11


async def test_what_is_committed_while_two_reads_of_a_new_folder_are_under_way_is_not_lost() -> None:
    reading = Reading()
    numbers = ChangeNumbers(reading.begin, alone=True)
    before = numbers.of((1, 7))
    (read, early) = reading.made[0]
    read()
    after = numbers.of((1, 7))  # by a second read, which begins when the folder is there
    numbers.note({1: Touched(5, {7: 5})})
    early.set_result({})
    await asyncio.sleep(0)
    numbers.note({1: Touched(6, {7: 6})})
    await reading.answer({(1, 7): 5})
    assert not isinstance(before, int) and not isinstance(after, int)
    assert (await after, numbers.of((1, 7))) == (6, 6)


async def test_a_read_that_was_under_way_at_a_commit_in_doubt_is_not_kept() -> None:
    reading = Reading()
    numbers = ChangeNumbers(reading.begin, alone=True)
    first = numbers.of((1, 7))
    numbers.forget()
    await reading.answer({(1, 7): 5})
    assert not isinstance(first, int) and await first == 5
    assert not isinstance(numbers.of((1, 7)), int)


async def test_a_read_that_fails_is_no_answer_and_the_next_one_asks_again() -> None:
    reading = Reading()
    numbers = ChangeNumbers(reading.begin, alone=True)
    first = numbers.of((1, 7))
    read, future = reading.made.pop()
    read()
    future.set_exception(errors.StoreBusy())
    await asyncio.sleep(0)
    assert not isinstance(first, int)
    with pytest.raises(errors.StoreBusy):
        await first
    assert not isinstance(numbers.of((1, 7)), int)


async def test_the_folders_that_are_known_are_bounded() -> None:
    reading = Reading()
    numbers = ChangeNumbers(reading.begin, alone=True)
    for folder_id in range(MOST_KNOWN + 1):
        numbers.of((1, folder_id + 1))
    await reading.answer({(1, folder_id + 1): 1 for folder_id in range(MOST_KNOWN + 1)})
    assert len(numbers._known) <= MOST_KNOWN
