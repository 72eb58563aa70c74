"""A repeated request gets the first answer and has one effect (docs/design.md "Idempotence")."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from restante import errors
from restante.v1 import methods
from restante.v1.admin_pb2 import (
    BackupStoreRequest,
    CheckStoreRequest,
    CreateAccountRequest,
    CreateAliasRequest,
    CreateDomainRequest,
    DeleteAccountRequest,
)
from restante.v1.content_pb2 import UPLOAD_KIND_MESSAGE, UploadChunkRequest
from restante.v1.folder_pb2 import CreateFolderRequest
from restante.v1.message_pb2 import (
    AppendMessageRequest,
    CopyMessagesRequest,
    CreateDraftRequest,
    Draft,
    MessageSet,
    MoveMessagesRequest,
)
from restante.v1.signing_pb2 import CreateDomainKeysRequest, NewDomainKey, SigningAlgorithm
from restante.v1.submission_pb2 import EnvelopeRecipient, SubmitMessageRequest
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante.v1.types_pb2 import IdRange, UidSet
from restante_server.db import schema
from restante_server.upkeep.jobs.records import UNFINISHED
from tests.harness.postgres import PostgresServer
from tests.server.api.served import UNARY_FIELDS, Served, operation, request_id, served, token_metadata
from tests.server.conftest import BOTH

together = pytest.mark.asyncio(loop_scope="module")

COUNTED = (
    schema.domain,
    schema.domain_key,
    schema.account,
    schema.alias,
    schema.folder,
    schema.message,
    schema.tombstone,
    schema.upload,
    schema.transport_message,
    schema.content,
    schema.job,
)
UIDS = itertools.count(2)  # of messages that can be moved
MESSAGE = b"From: alice@example.test\r\nSubject: once\r\n\r\nonly once\r\n"


def one_message(uid: int) -> MessageSet:
    """A set of one message of the Inbox."""
    return MessageSet(uids=UidSet(folder_id=1, ranges=[IdRange(first=uid, last=uid)]))


@dataclass(frozen=True)
class Creating:
    """One RPC that creates something: a request, and a different one."""

    request: Callable[[str], Any]  # from a word that is different each time
    rows: dict[str, int]  # {table: rows added by one effect}


CREATING: dict[str, Creating] = {
    "FolderService/CreateFolder": Creating(lambda word: CreateFolderRequest(path=[word]), {"folder": 1}),
    "MessageService/AppendMessage": Creating(
        lambda word: AppendMessageRequest(folder_id=2, content=MESSAGE + word.encode() + b"\r\n"),
        {"message": 1, "content": 1},
    ),
    "MessageService/CreateDraft": Creating(
        lambda word: CreateDraftRequest(draft=Draft(subject=word, text="soon")), {"message": 1, "content": 1}
    ),
    "MessageService/CopyMessages": Creating(
        lambda word: CopyMessagesRequest(messages=one_message(1), target_folder_id=3 + len(word) % 2),
        {"message": 1},
    ),
    "MessageService/MoveMessages": Creating(
        lambda _: MoveMessagesRequest(messages=one_message(next(UIDS)), target_folder_id=5), {"tombstone": 1}
    ),
    "ContentService/UploadChunk": Creating(
        lambda word: UploadChunkRequest(kind=UPLOAD_KIND_MESSAGE, octets=word.encode()), {"upload": 1}
    ),
    "SubmissionService/SubmitMessage": Creating(
        lambda word: SubmitMessageRequest(
            content=MESSAGE + word.encode() + b"\r\n", recipients=[EnvelopeRecipient(forward_path="bob@example.test")]
        ),
        {"transport_message": 1},
    ),
    "AdminService/CreateDomain": Creating(lambda word: CreateDomainRequest(name=f"{word}.example"), {"domain": 1}),
    "AdminService/CreateAccount": Creating(
        lambda word: CreateAccountRequest(address=f"{word}@example.test", password="correct horse"), {"account": 1}
    ),
    "AdminService/CreateAlias": Creating(
        lambda word: CreateAliasRequest(address=f"also-{word}@example.test", targets=["bob@example.test"]), {"alias": 1}
    ),
    "AdminService/CreateDomainKeys": Creating(
        lambda word: CreateDomainKeysRequest(
            domain="example.test",
            keys=[NewDomainKey(algorithm=SigningAlgorithm.SIGNING_ALGORITHM_ED25519, selector=word)],
        ),
        {"domain_key": 1},
    ),
    "AdminService/CheckStore": Creating(lambda word: CheckStoreRequest(digests=word == "reused2"), {"job": 1}),
    "AdminService/BackupStore": Creating(lambda word: BackupStoreRequest(directory=word), {"job": 1}),
    "AdminService/DeleteAccount": Creating(
        lambda word: DeleteAccountRequest(address=f"leaves-{word}@example.test"), {"job": 1}
    ),
}
LEAVING = ("repeat", "at-once", "lost-0-0", "lost-0-002", "lost-0-01", "reused")  # accounts that are deleted, by word


@dataclass
class House:
    """A core with alice's session."""

    core: Served
    token: bytes
    backups: Path  # where backups may be written

    def request(self, rpc: str, word: str) -> Any:
        """The request of an RPC for a word, with a fresh request id."""
        request = CREATING[rpc].request(word)
        if isinstance(request, BackupStoreRequest):
            request.directory = str(self.backups / request.directory)
        request.request_id = request_id()
        return request


@pytest.fixture(scope="module", params=BOTH)
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database; "" for SQLite in the data directory."""
    if request.param == "sqlite":
        yield ""
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> AsyncIterator[House]:
    directory, backups = tmp_path_factory.mktemp("idempotence"), tmp_path_factory.mktemp("backups")
    async with served(Path(directory), STORE__URL=store_url, STORE__BACKUPS=str(backups)) as core:
        token = (await core.session("alice")).session_token
        for _ in range(30):
            first = AppendMessageRequest(folder_id=1, content=MESSAGE, request_id=request_id())
            await core.call("MessageService/AppendMessage", first, token=token)
        for word in LEAVING:
            leaving = CreateAccountRequest(
                address=f"leaves-{word}@example.test", password="correct horse", request_id=request_id()
            )
            await core.call("AdminService/CreateAccount", leaving, token=token)
        yield House(core, token, backups)


async def counts(core: Served) -> dict[str, int]:
    """The number of rows in each table that these RPCs create rows in, once no job works on them."""
    unfinished = select(func.count()).select_from(schema.job).where(schema.job.c.state.in_(UNFINISHED))
    async with asyncio.timeout(30):
        while await core.core.db.read(lambda tx: tx.scalar(unfinished)):
            await asyncio.sleep(0.01)

    def read(tx: Any) -> dict[str, int]:
        return {table.name: tx.scalar(select(func.count()).select_from(table)) for table in COUNTED}

    found: dict[str, int] = await core.core.db.read(read)
    return found


def grown(before: dict[str, int], after: dict[str, int], among: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in among}


OF_RELAYS = {"TransportService/ReportTlsSessions"}
"""RPCs that no session may call; tests/server/transport/test_tls.py repeats this one."""


def test_every_rpc_that_needs_a_request_id_is_tested() -> None:
    creating = {
        f"{known.service}/{known.name}"
        for known in methods.ALL
        if "request_id" in known.request.DESCRIPTOR.fields_by_name
    }
    assert set(CREATING) == creating - OF_RELAYS


def fixed(response: Any) -> Any:
    """A response without its time-dependent fields."""
    kept = type(response)()
    kept.CopyFrom(response)
    if "submission" in response.DESCRIPTOR.fields_by_name:
        for recipient in kept.submission.recipients:
            recipient.ClearField("state")  # delivery continues meanwhile
            recipient.ClearField("status")
            recipient.ClearField("diagnostic")
            recipient.ClearField("next_attempt_at")
    if "job" in response.DESCRIPTOR.fields_by_name:  # it runs meanwhile
        kept.job.Clear()
        kept.job.job_id, kept.job.kind, kept.job.subject = response.job.job_id, response.job.kind, response.job.subject
    return kept


@together
@pytest.mark.parametrize("rpc", sorted(CREATING))
async def test_a_repeat_has_the_first_answer_and_one_effect(house: House, rpc: str) -> None:
    request, before = house.request(rpc, "repeat"), await counts(house.core)
    first = await house.core.call(rpc, request, token=house.token)
    (result,) = await house.core.operate(operation(rpc, request, token=house.token))  # as an operation of a batch
    again = await house.core.call(rpc, request, token=house.token)
    assert not result.HasField("status"), result.status
    answers = [fixed(first), fixed(again), fixed(getattr(result, UNARY_FIELDS[rpc]))]
    assert answers[1:] == answers[:1] * 2
    assert grown(before, await counts(house.core), CREATING[rpc].rows) == CREATING[rpc].rows


@together
@pytest.mark.parametrize("rpc", sorted(CREATING))
async def test_repeats_at_once_have_one_effect(house: House, rpc: str) -> None:
    request, before = house.request(rpc, "at-once"), await counts(house.core)
    answers = await asyncio.gather(*(house.core.call(rpc, request, token=house.token) for _ in range(6)))
    assert all(fixed(answer) == fixed(answers[0]) for answer in answers)
    assert grown(before, await counts(house.core), CREATING[rpc].rows) == CREATING[rpc].rows


@together
@pytest.mark.parametrize("rpc", sorted(CREATING))
@pytest.mark.parametrize("after_seconds", [0.0, 0.002, 0.01])
async def test_a_call_whose_answer_was_lost_can_be_made_again(house: House, rpc: str, after_seconds: float) -> None:
    request, before = house.request(rpc, f"lost-{after_seconds}".replace(".", "-")), await counts(house.core)
    channel = house.core.channel()
    call = house.core.stub(rpc, channel)(request, metadata=token_metadata(house.token))
    await asyncio.sleep(after_seconds)
    call.cancel()
    await channel.close()  # the connection breaks, before or after the commit
    await house.core.call(rpc, request, token=house.token)
    assert grown(before, await counts(house.core), CREATING[rpc].rows) == CREATING[rpc].rows


@together
@pytest.mark.parametrize("rpc", sorted(CREATING))
async def test_an_id_stands_for_one_request(house: House, rpc: str) -> None:
    request = house.request(rpc, "reused")
    await house.core.call(rpc, request, token=house.token)
    other = house.request(rpc, "reused2")
    other.request_id = request.request_id
    with pytest.raises(errors.RequestIdReused):
        await house.core.call(rpc, other, token=house.token)


@together
@pytest.mark.parametrize("rpc", sorted(CREATING))
@pytest.mark.parametrize("octets", [0, 15, 17])
async def test_an_id_is_required(house: House, rpc: str, octets: int) -> None:
    request = house.request(rpc, "required")
    request.request_id = b"x" * octets
    with pytest.raises(errors.RequestIdRequired):
        await house.core.call(rpc, request, token=house.token)


@together
async def test_a_failure_is_not_remembered(house: House) -> None:
    request = AppendMessageRequest(folder_id=777, content=MESSAGE, request_id=request_id())
    with pytest.raises(errors.FolderNotFound):
        await house.core.call("MessageService/AppendMessage", request, token=house.token)
    request.folder_id = 1
    assert await house.core.call("MessageService/AppendMessage", request, token=house.token)


@together
async def test_an_id_is_one_actors_alone(house: House) -> None:
    request = house.request("FolderService/CreateFolder", "shared")
    await house.core.call("FolderService/CreateFolder", request, token=house.token)
    bob = (await house.core.session("bob")).session_token
    answer = await house.core.call("FolderService/CreateFolder", request, token=bob)
    assert answer.commit.mailbox_id != house.token
    assert answer.folder.path == ["shared"]


@together
async def test_an_upload_is_used_up_once_and_the_repeat_still_answers(house: House) -> None:
    chunk = UploadChunkRequest(kind=UPLOAD_KIND_MESSAGE, octets=MESSAGE, last=True, request_id=request_id())
    upload_id = (await house.core.call("ContentService/UploadChunk", chunk, token=house.token)).upload_id
    request = AppendMessageRequest(folder_id=1, upload_id=upload_id, request_id=request_id())
    answers = [await house.core.call("MessageService/AppendMessage", request, token=house.token) for _ in range(2)]
    assert answers[0] == answers[1]
    request.request_id = request_id()
    with pytest.raises(errors.UploadNotFound):
        await house.core.call("MessageService/AppendMessage", request, token=house.token)


@together
async def test_an_acceptance_repeated_at_once_reaches_the_mailbox_once(house: House) -> None:
    begin = AcceptBegin(
        request_id=request_id(),
        reverse_path="someone@example.org",
        recipients=[EnvelopeRecipient(forward_path="carol@example.test")],
        trace_field="Received: from a by b; Mon, 23 Nov 2026 20:00:00 +0000\r\n",
    )
    before = await counts(house.core)
    request = AcceptMessageRequest(start=begin, content=MESSAGE)
    answers = await asyncio.gather(
        *(house.core.call("TransportService/AcceptMessage", request, identity="smtp") for _ in range(3))
    )
    assert len({answer.transport_id for answer in answers}) == 1
    assert grown(before, await counts(house.core), {"message": 1}) == {"message": 1}
