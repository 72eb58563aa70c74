"""Batches whose operations refer to each other, on a real core, by ExecuteOnce and by an Execute stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from restante.errors import RestanteError, from_status
from restante.v1.batch_pb2 import ExecuteRequest, Operation, OperationResult, Reference
from restante.v1.content_pb2 import UPLOAD_KIND_MESSAGE, UploadChunkRequest
from restante.v1.folder_pb2 import (
    FOLDER_ROLE_DRAFTS,
    CreateFolderRequest,
    DeleteFolderRequest,
    GetFolderRequest,
    ListFoldersRequest,
)
from restante.v1.mailbox_pb2 import GetMailboxRequest
from restante.v1.message_pb2 import (
    FLAG_OPERATION_ADD,
    MESSAGE_COLUMN_FLAGS,
    MESSAGE_COLUMN_FOLDER,
    AppendMessageRequest,
    BatchGetMessagesRequest,
    CopyMessagesRequest,
    MessageSet,
    MoveMessagesRequest,
    QueryMessagesRequest,
    UpdateMessagesRequest,
)
from restante.v1.search_pb2 import TEXT_FIELD_SUBJECT, Restriction, TextRestriction
from restante.v1.submission_pb2 import GetSubmissionRequest, SubmitMessageRequest
from restante.v1.types_pb2 import FLAG_FLAGGED, MessageIdSet
from restante_server.store.check import check
from tests.server.api.served import DOMAIN, Served, operation, request_id, served, token_metadata

together = pytest.mark.asyncio(loop_scope="module")

INBOX = 1
Run = Callable[..., Awaitable[list[OperationResult]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("references"))) as made:
        yield made
        assert await made.core.db.read(check) == []


async def once(core: Served, *operations: Operation) -> list[OperationResult]:
    return await core.operate(*operations)


async def streamed(core: Served, *operations: Operation) -> list[OperationResult]:
    """The results of one request message of an Execute stream, in the order of the operations."""
    call = core.stub("BatchService/Execute", core.channel())(
        iter([ExecuteRequest(operations=operations)]), metadata=token_metadata(operations[0].session_token), timeout=30
    )
    found = {result.operation_id: result async for response in call for result in response.results}
    return [found[each.operation_id] for each in operations]


both = pytest.mark.parametrize("run", [once, streamed])


class Chain:
    """The operations of one batch of one session, numbered from 1."""

    def __init__(self, token: bytes) -> None:
        self.token = token
        self.operations: list[Operation] = []

    def add(self, rpc: str, request: Any, *references: tuple[int, str, str], **more: Any) -> None:
        """`references`: (operation, field of its response, field of this request)."""
        made = operation(rpc, request, token=self.token, operation_id=len(self.operations) + 1, **more)
        for named, source, target in references:
            made.references.append(Reference(operation_id=named, response_field=source, request_field=target))
        self.operations.append(made)


async def letter(core: Served, token: bytes, subject: str) -> int:
    """The id of a new message in the Inbox."""
    content = f"From: bob@{DOMAIN}\r\nTo: carol@{DOMAIN}\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()
    request = AppendMessageRequest(folder_id=INBOX, content=content, request_id=request_id())
    added = await core.call("MessageService/AppendMessage", request, token=token)
    return int(added.message_id)


def subject(word: str) -> Restriction:
    return Restriction(text=TextRestriction(field=TEXT_FIELD_SUBJECT, value=word))


def error_of(result: OperationResult) -> RestanteError:
    return from_status(result.status)


async def where(core: Served, token: bytes, *message_ids: int) -> list[int]:
    """The folder of each message."""
    request = BatchGetMessagesRequest(
        messages=MessageSet(ids=MessageIdSet(message_ids=message_ids)), columns=[MESSAGE_COLUMN_FOLDER]
    )
    answer = await core.call("MessageService/BatchGetMessages", request, token=token)
    return list(answer.rows.folder_ids)


@together
@both
async def test_messages_go_into_a_folder_that_the_batch_creates(core: Served, run: Any) -> None:
    token = (await core.session("bob")).session_token
    message_id = await letter(core, token, "to move")
    batch = Chain(token)
    batch.add("FolderService/CreateFolder", CreateFolderRequest(path=[f"By {run.__name__}"], request_id=request_id()))
    messages = MessageSet(ids=MessageIdSet(message_ids=[message_id]))
    move = MoveMessagesRequest(messages=messages, request_id=request_id())
    batch.add("MessageService/MoveMessages", move, (1, "folder.folder_id", "target_folder_id"))
    made, moved = await run(core, *batch.operations)
    folder_id = made.create_folder.folder.folder_id
    assert moved.move_messages.target_folder_id == folder_id
    assert await where(core, token, message_id) == [folder_id]
    again = await run(core, *batch.operations)  # each request_id gets its first answer
    assert [made.create_folder, moved.move_messages] == [again[0].create_folder, again[1].move_messages]


@together
@both
async def test_the_messages_of_a_query_are_flagged(core: Served, run: Any) -> None:
    token = (await core.session("bob")).session_token
    word = f"urgent{run.__name__}"
    ids = {await letter(core, token, f"{word} {number}") for number in range(3)}
    other = await letter(core, token, "calm")
    batch = Chain(token)
    batch.add("MessageService/QueryMessages", QueryMessagesRequest(restriction=subject(word)))
    update = UpdateMessagesRequest(operation=FLAG_OPERATION_ADD, flags=FLAG_FLAGGED)
    batch.add("MessageService/UpdateMessages", update, (1, "rows.message_ids", "messages.ids.message_ids"))
    get = BatchGetMessagesRequest(columns=[MESSAGE_COLUMN_FLAGS])
    batch.add("MessageService/BatchGetMessages", get, (1, "rows.message_ids", "messages.ids.message_ids"))
    found, updated, seen = await run(core, *batch.operations)
    assert set(found.query_messages.rows.message_ids) == ids
    assert updated.update_messages.updated_count == 3
    assert set(seen.batch_get_messages.rows.message_ids) == ids
    assert all(flags & FLAG_FLAGGED for flags in seen.batch_get_messages.rows.flags)
    untouched = await core.call(
        "MessageService/BatchGetMessages",
        BatchGetMessagesRequest(
            messages=MessageSet(ids=MessageIdSet(message_ids=[other])), columns=[MESSAGE_COLUMN_FLAGS]
        ),
        token=token,
    )
    assert not untouched.rows.flags[0] & FLAG_FLAGGED


@together
async def test_a_query_that_finds_nothing_changes_nothing(core: Served) -> None:
    token = (await core.session("bob")).session_token
    batch = Chain(token)
    batch.add("MessageService/QueryMessages", QueryMessagesRequest(restriction=subject("nowhere at all")))
    update = UpdateMessagesRequest(operation=FLAG_OPERATION_ADD, flags=FLAG_FLAGGED)
    batch.add("MessageService/UpdateMessages", update, (1, "rows.message_ids", "messages.ids.message_ids"))
    _, updated = await core.operate(*batch.operations)
    assert not updated.HasField("status")
    assert updated.update_messages.updated_count == 0


@together
@both
async def test_an_upload_is_appended_and_submitted(core: Served, run: Any) -> None:
    token = (await core.session("bob")).session_token
    drafts = GetFolderRequest(role=FOLDER_ROLE_DRAFTS)
    content = f"From: bob@{DOMAIN}\r\nTo: carol@{DOMAIN}\r\nSubject: {run.__name__}\r\n\r\nHello\r\n".encode()
    batch = Chain(token)
    batch.add("FolderService/GetFolder", drafts, independent=True)
    upload = UploadChunkRequest(kind=UPLOAD_KIND_MESSAGE, octets=content, last=True, request_id=request_id())
    batch.add("ContentService/UploadChunk", upload)
    batch.add(
        "MessageService/AppendMessage",
        AppendMessageRequest(request_id=request_id()),
        (1, "folder.folder_id", "folder_id"),
        (2, "upload_id", "upload_id"),
    )
    batch.add(
        "SubmissionService/SubmitMessage",
        SubmitMessageRequest(request_id=request_id()),
        (3, "message_id", "message_id"),
    )
    batch.add(
        "SubmissionService/GetSubmission",
        GetSubmissionRequest(),
        (4, "submission.submission_id", "submission_id"),
        independent=True,
    )
    *_, submitted, got = await run(core, *batch.operations)
    assert not submitted.HasField("status"), submitted
    (recipient,) = got.get_submission.submission.recipients
    assert (recipient.forward_path, recipient.status) == (f"carol@{DOMAIN}", "2.1.5")


@together
async def test_copied_runs_are_the_messages_of_the_next_copy(core: Served) -> None:
    token = (await core.session("bob")).session_token
    ids = [await letter(core, token, f"run {number}") for number in range(3)]
    batch = Chain(token)
    first = CopyMessagesRequest(
        messages=MessageSet(ids=MessageIdSet(message_ids=ids)), target_path=["Inbox"], request_id=request_id()
    )
    batch.add("MessageService/CopyMessages", first)
    second = CopyMessagesRequest(target_path=["Inbox"], request_id=request_id())
    batch.add("MessageService/CopyMessages", second, (1, "target_message_ids", "messages.ids.message_ids"))
    listed = ListFoldersRequest()
    batch.add("FolderService/ListFolders", listed, (2, "commit", "min_commit"))
    copied, again, folders = await core.operate(*batch.operations)
    assert again.copy_messages.source_message_ids == copied.copy_messages.target_message_ids
    inbox = next(each for each in folders.list_folders.folders if each.folder_id == INBOX)
    assert inbox.change_number >= again.copy_messages.commit.change_number


@together
async def test_a_filled_request_is_judged_like_any_other(core: Served) -> None:
    """Rights: a reference that makes a request name another mailbox gets the answer of a request that names it."""
    bob, carol = [(await core.session(name)).session_token for name in ("bob", "carol")]
    alice = (await core.session("alice")).mailbox_id
    batch = Chain(bob)
    batch.add("MailboxService/GetMailbox", GetMailboxRequest())
    batch.add("FolderService/ListFolders", ListFoldersRequest(), (1, "mailbox.mailbox_id", "mailbox_id"))
    own, listed = await core.operate(*batch.operations)
    assert listed.list_folders.folders
    # The number of carol's Inbox is that of alice's mailbox.
    batch = Chain(carol)
    batch.add("FolderService/GetFolder", GetFolderRequest(folder_id=INBOX))
    batch.add("FolderService/ListFolders", ListFoldersRequest(), (1, "folder.folder_id", "mailbox_id"))
    _, refused = await core.operate(*batch.operations)
    assert INBOX == alice != own.get_mailbox.mailbox.mailbox_id
    assert error_of(refused).reason == "MAILBOX_NOT_FOUND"
    assert error_of(refused).metadata == {"mailbox_id": str(alice)}


def query_and_move(token: bytes, word: str, moving: bytes) -> Chain:
    """A batch that moves what a query finds into the folder Archive."""
    made = Chain(token)
    made.add("MessageService/QueryMessages", QueryMessagesRequest(folder_id=INBOX, restriction=subject(word)))
    move = MoveMessagesRequest(target_path=["Archive"], request_id=moving)
    made.add("MessageService/MoveMessages", move, (1, "rows.message_ids", "messages.ids.message_ids"))
    return made


@together
@both
async def test_a_repeated_move_of_what_a_query_found_gets_its_first_answer(core: Served, run: Any) -> None:
    token = (await core.session("alice")).session_token
    word = f"move{run.__name__}"
    message_id, moving = await letter(core, token, word), request_id()
    _, moved = await run(core, *query_and_move(token, word, moving).operations)
    assert moved.move_messages.message_ids[0].first == message_id
    found, repeated = await run(core, *query_and_move(token, word, moving).operations)
    assert not found.query_messages.rows.message_ids  # the message is in Archive now
    assert repeated.move_messages == moved.move_messages
    late = await letter(core, token, word)  # what the query finds now is not what was moved
    _, repeated = await run(core, *query_and_move(token, word, moving).operations)
    assert repeated.move_messages == moved.move_messages
    assert await where(core, token, late) == [INBOX]


@together
@both
async def test_a_repetition_gets_its_first_answer_when_its_source_fails(core: Served, run: Any) -> None:
    token = (await core.session("alice")).session_token
    word, moving = f"source{run.__name__}", request_id()
    folder = await core.call(
        "FolderService/CreateFolder", CreateFolderRequest(path=[word], request_id=request_id()), token=token
    )
    messages = MessageSet(ids=MessageIdSet(message_ids=[await letter(core, token, word)]))

    def batch(request: bytes) -> Chain:
        made = Chain(token)
        made.add("FolderService/GetFolder", GetFolderRequest(folder_id=folder.folder.folder_id))
        move = MoveMessagesRequest(messages=messages, request_id=request)
        made.add("MessageService/MoveMessages", move, (1, "folder.folder_id", "target_folder_id"))
        return made

    _, moved = await run(core, *batch(moving).operations)
    await core.call(
        "FolderService/DeleteFolder",
        DeleteFolderRequest(folder_id=folder.folder.folder_id),
        token=token,
    )
    gone, repeated = await run(core, *batch(moving).operations)
    assert error_of(gone).reason == "FOLDER_NOT_FOUND"
    assert repeated.move_messages == moved.move_messages
    _, fresh = await run(core, *batch(request_id()).operations)
    assert error_of(fresh).reason == "OPERATION_REFERENCE_FAILED"


@together
async def test_a_repeated_submission_gets_its_first_answer_when_its_source_fails(core: Served) -> None:
    token = (await core.session("alice")).session_token
    content = f"From: alice@{DOMAIN}\r\nTo: carol@{DOMAIN}\r\nSubject: once\r\n\r\nHello\r\n".encode()
    upload = await core.call(
        "ContentService/UploadChunk",
        UploadChunkRequest(kind=UPLOAD_KIND_MESSAGE, octets=content, last=True, request_id=request_id()),
        token=token,
    )

    def batch(request: bytes) -> Chain:
        made = Chain(token)
        append = AppendMessageRequest(folder_id=INBOX, upload_id=upload.upload_id, request_id=request_id())
        made.add("MessageService/AppendMessage", append)
        submit = SubmitMessageRequest(request_id=request)
        made.add("SubmissionService/SubmitMessage", submit, (1, "message_id", "message_id"))
        return made

    sending = request_id()
    _, submitted = await core.operate(*batch(sending).operations)
    gone, repeated = await core.operate(*batch(sending).operations)  # the first append has used up the upload
    assert error_of(gone).reason == "UPLOAD_NOT_FOUND"
    assert repeated.submit_message == submitted.submit_message


@together
async def test_a_request_id_counts_for_the_request_as_sent(core: Served) -> None:
    token = (await core.session("bob")).session_token
    first, second = await letter(core, token, "one"), await letter(core, token, "two")
    same = request_id()

    def batch(source: str, target: str = "Inbox") -> Chain:
        made = Chain(token)
        get = BatchGetMessagesRequest(messages=MessageSet(ids=MessageIdSet(message_ids=[first, second])))
        made.add("MessageService/BatchGetMessages", get)
        copy = CopyMessagesRequest(target_path=[target], request_id=same)
        made.add("MessageService/CopyMessages", copy, (1, source, "messages.ids.message_ids"))
        return made

    _, copied = await core.operate(*batch("rows.message_ids").operations)
    _, repeated = await core.operate(*batch("rows.message_ids").operations)
    assert copied.copy_messages == repeated.copy_messages
    for other in (batch("rows.uids"), batch("rows.message_ids", "Archive")):
        _, refused = await core.operate(*other.operations)
        assert error_of(refused).reason == "REQUEST_ID_REUSED"


@together
@both
async def test_a_failure_leaves_those_behind_it_without_effect(core: Served, run: Any) -> None:
    token = (await core.session("bob")).session_token
    message_id = await letter(core, token, "stays")
    batch = Chain(token)
    batch.add("FolderService/CreateFolder", CreateFolderRequest(path=["Inbox"], request_id=request_id()))
    messages = MessageSet(ids=MessageIdSet(message_ids=[message_id]))
    move = MoveMessagesRequest(messages=messages, request_id=request_id())
    batch.add("MessageService/MoveMessages", move, (1, "folder.folder_id", "target_folder_id"))
    made, moved = await run(core, *batch.operations)
    assert error_of(made).reason == "FOLDER_EXISTS"
    assert (error_of(moved).reason, error_of(moved).metadata["operation_id"]) == ("OPERATION_REFERENCE_FAILED", "1")
    assert await where(core, token, message_id) == [INBOX]


@together
@both
async def test_references_forward_and_to_others_are_refused(core: Served, run: Any) -> None:
    bob, carol = [(await core.session(name)).session_token for name in ("bob", "carol")]
    forward = Chain(bob)
    forward.add("FolderService/GetFolder", GetFolderRequest(), (2, "folder.folder_id", "folder_id"))
    forward.add("FolderService/GetFolder", GetFolderRequest(folder_id=INBOX))
    (refused, fine) = await run(core, *forward.operations)
    assert error_of(refused).metadata == {
        "field": "references[0].operation_id",
        "problem": "operation 2 comes behind this one",
    }
    assert fine.get_folder.folder.folder_id == INBOX
    hers = operation("FolderService/GetFolder", GetFolderRequest(folder_id=INBOX), token=carol, operation_id=1)
    his = Chain(bob)
    his.add("FolderService/GetFolder", GetFolderRequest(folder_id=INBOX))  # takes the number 1, which is carol's below
    his.add("FolderService/GetFolder", GetFolderRequest(), (1, "folder.folder_id", "folder_id"))
    _, refused = await run(core, hers, his.operations[1])
    assert error_of(refused).metadata["problem"] == "operation 1 belongs to another session"
