"""Access to every RPC of the contract for every kind of caller, over the wire.

INVALID_SESSION and PERMISSION_DENIED are refusals; any other answer to an empty request means that it was allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from restante import errors
from restante.errors import RestanteError
from restante.streams import WRITE_FAILED
from restante.v1.session_pb2 import Scope
from restante.v1.sync_pb2 import Subscription, WatchMailboxesRequest, WatchRequest
from restante.v1.transport_pb2 import AcceptRequest
from tests.server.api.served import (
    CONTRACT,
    STREAMING,
    UNARY_FIELDS,
    Served,
    operation,
    request_id,
    request_type,
    served,
    token_metadata,
)

together = pytest.mark.asyncio(loop_scope="module")

REFUSED = (errors.InvalidSession, errors.PermissionDenied)
ANSWER_SECONDS = 60  # every stream answers these requests; a call without an answer is a failure, not an allowed one

NO_SUBSCRIPTION = Subscription(subscription_id=0)  # refused on the stream itself, by those who may open it
SPOKEN: dict[str, Any] = {
    # Streams that send nothing by themselves get a request that they must answer.
    "SyncService/Watch": WatchRequest(subscribe=NO_SUBSCRIPTION),
    "SyncService/WatchMailboxes": WatchMailboxesRequest(subscriptions=[NO_SUBSCRIPTION]),
}

CALLERS: dict[str, tuple[str, str, int]] = {
    # kind of caller: (process identity, person with a session, its scope)
    "nobody": ("", "", 0),
    "api": ("", "bob", Scope.SCOPE_API),
    "imap": ("", "bob", Scope.SCOPE_IMAP),
    "pop3": ("", "bob", Scope.SCOPE_POP3),
    "smtp-submit": ("", "bob", Scope.SCOPE_SMTP_SUBMIT),
    "imap gateway": ("imap", "", 0),
    "pop3 gateway": ("pop3", "", 0),
    "smtp gateway": ("smtp", "", 0),
    "relay": ("relay", "", 0),
    "admin identity": ("admin", "", 0),
    "imap by gateway": ("imap", "bob", Scope.SCOPE_IMAP),
    "pop3 by gateway": ("pop3", "bob", Scope.SCOPE_POP3),
    "submission by gateway": ("smtp", "bob", Scope.SCOPE_SMTP_SUBMIT),
    "administrator": ("", "alice", Scope.SCOPE_API),
    "administrator by imap": ("", "alice", Scope.SCOPE_IMAP),
}

API = {"api", "administrator"}
IMAP = {"imap", "imap by gateway", "administrator by imap"}
POP3 = {"pop3", "pop3 by gateway"}
SUBMIT = {"smtp-submit", "submission by gateway"}
SESSIONS = API | IMAP | POP3 | SUBMIT
LOGIN_GATEWAYS = {"imap gateway", "pop3 gateway", "smtp gateway"}
ADMINISTRATORS = {"admin identity", "administrator"}
MAIL = API | IMAP
READ = MAIL | POP3
NOT_TO_LOG_IN = {"relay", "admin identity"}

ALLOWED: dict[str, set[str]] = {
    "SessionService/Authenticate": set(CALLERS) - NOT_TO_LOG_IN,
    "SessionService/GetMechanisms": set(CALLERS) - NOT_TO_LOG_IN,
    "SessionService/GetServer": SESSIONS | LOGIN_GATEWAYS | NOT_TO_LOG_IN,
    "SessionService/RenewSession": SESSIONS,
    "SessionService/Logoff": SESSIONS,
    "SessionService/GetSession": SESSIONS,
    "SessionService/ChangePassword": API,
    "MailboxService/GetMailbox": SESSIONS,
    "MailboxService/ListMailboxes": SESSIONS,
    "MailboxService/AcquireMaildrop": API | POP3,
    "MailboxService/RenewMaildrop": API | POP3,
    "MailboxService/ReleaseMaildrop": API | POP3,
    "FolderService/ListFolders": READ,
    "FolderService/GetFolder": READ,
    "FolderService/CreateFolder": MAIL,
    "FolderService/MoveFolder": MAIL,
    "FolderService/UpdateFolder": MAIL,
    "FolderService/DeleteFolder": MAIL,
    "FolderService/OpenFolder": MAIL,
    "FolderService/GetChangeNumbers": MAIL | {"imap gateway"},
    "FolderService/ReadFolderChanges": MAIL,
    "FolderService/ClaimRecent": MAIL,
    "FolderService/SetSubscription": MAIL,
    "FolderService/ListSubscriptions": READ,
    "MessageService/QueryMessages": MAIL,
    "MessageService/SearchMessages": MAIL,
    "MessageService/BatchGetMessages": READ,
    "MessageService/StreamMessages": READ,
    "MessageService/AppendMessage": MAIL,
    "MessageService/CreateDraft": API,
    "MessageService/UpdateMessages": MAIL,
    "MessageService/CopyMessages": MAIL,
    "MessageService/MoveMessages": MAIL,
    "MessageService/DeleteMessages": MAIL,
    "MessageService/ListRecoverableMessages": MAIL,
    "MessageService/RecoverMessages": MAIL,
    "MessageService/PurgeRecoverableMessages": MAIL,
    "ContentService/UploadContent": MAIL | SUBMIT,
    "ContentService/UploadChunk": MAIL | SUBMIT,
    "ContentService/GetUpload": MAIL | SUBMIT,
    "ContentService/ReadContent": READ,
    "SyncService/SyncMailbox": MAIL,
    "SyncService/Watch": MAIL | LOGIN_GATEWAYS,
    "SyncService/WatchMailboxes": MAIL | LOGIN_GATEWAYS,
    "SubmissionService/SubmitMessage": API | SUBMIT,
    "SubmissionService/CancelSubmission": API,
    "SubmissionService/GetSubmission": API,
    "SubmissionService/ListSubmissions": API,
    "TransportService/VerifyRecipients": {"smtp gateway"} | SUBMIT | API,
    "TransportService/Accept": {"smtp gateway"},
    "TransportService/AcceptMessage": {"smtp gateway"},
    "TransportService/AcceptSubmission": {"submission by gateway"},
    "TransportService/LeaseOutbound": {"relay"},
    "TransportService/ReadOutbound": {"relay"},
    "TransportService/RenewLease": {"relay"},
    "TransportService/ReportOutcome": {"relay"},
    "TransportService/GetStsPolicy": {"relay"},
    "TransportService/StoreStsPolicy": {"relay"},
    "TransportService/ReportTlsSessions": {"relay"},
    "TransportService/LeaseTlsReports": {"relay"},
    "TransportService/ReadTlsReport": {"relay"},
    "TransportService/SettleTlsReport": {"relay"},
    "DirectoryService/ResolveNames": API,
    "DirectoryService/ListEntries": API,
    "DirectoryService/GetEntry": API,
    **{rpc: ADMINISTRATORS for rpc in CONTRACT if rpc.startswith(("AdminService/", "JobService/"))},
    # Rights apply to each operation of a batch; the stream itself needs none.
    "BatchService/Execute": set(CALLERS),
    "BatchService/ExecuteOnce": set(CALLERS),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("access"))) as made:
        yield made


async def token_of(core: Served, caller: str) -> bytes:
    identity, name, scope = CALLERS[caller]
    return (await core.session(name, scope, identity=identity)).session_token if name else b""


def empty_request(rpc: str) -> Any:
    """A request with a request id only, so that the access rule answers and not the check of a missing id."""
    request = request_type(rpc)()
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        request.request_id = request_id()
    return request


async def directly(core: Served, rpc: str, caller: str) -> RestanteError | None:
    identity, _, _ = CALLERS[caller]
    try:
        await core.call(rpc, empty_request(rpc), token=await token_of(core, caller), identity=identity)
    except RestanteError as error:
        return error
    return None


async def in_a_batch(core: Served, rpc: str, caller: str) -> RestanteError | None:
    identity, _, _ = CALLERS[caller]
    asked = operation(rpc, empty_request(rpc), token=await token_of(core, caller))
    (result,) = await core.operate(asked, identity=identity)
    return errors.from_status(result.status) if result.HasField("status") else None


async def as_a_stream(core: Served, rpc: str, caller: str) -> RestanteError | None:
    """The refusal, or None once the stream has answered or ended. Silence is neither, for any time."""
    identity, _, _ = CALLERS[caller]
    method, request = CONTRACT[rpc], SPOKEN.get(rpc) or empty_request(rpc)
    metadata = (*core.identity(identity), *token_metadata(await token_of(core, caller)))
    asked = iter([request]) if method.client_streaming else request
    call = core.stub(rpc)(asked, metadata=metadata, timeout=ANSWER_SECONDS)
    try:
        if method.server_streaming:
            await call.read()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        if error.details() == WRITE_FAILED:  # the refusal met the request on its way, and gRPC drops the reason
            return await as_a_stream(core, rpc, caller)
        known = errors.from_rpc_error(error)
        assert known.reason, f"{rpc} by {caller}: {known}"  # a deadline or a broken connection is no answer
        return known
    finally:
        call.cancel()
    return None


def test_every_rpc_has_a_line_in_the_table() -> None:
    assert set(ALLOWED) == set(CONTRACT)


@together
@pytest.mark.parametrize("rpc", sorted(UNARY_FIELDS))
@pytest.mark.parametrize("play", [directly, in_a_batch], ids=["directly", "in a batch"])
async def test_calls_are_allowed_and_refused_as_the_table_says(core: Served, rpc: str, play: Any) -> None:
    outcomes = {caller: await play(core, rpc, caller) for caller in CALLERS}
    allowed = {caller for caller, error in outcomes.items() if not isinstance(error, REFUSED)}
    assert allowed == ALLOWED[rpc], outcomes
    assert isinstance(outcomes["nobody"], errors.InvalidSession) or "nobody" in allowed  # not "denied": log in first


@together
@pytest.mark.parametrize("rpc", sorted(STREAMING))
async def test_streams_are_allowed_and_refused_as_the_table_says(core: Served, rpc: str) -> None:
    outcomes = dict(
        zip(CALLERS, await asyncio.gather(*(as_a_stream(core, rpc, caller) for caller in CALLERS)), strict=True)
    )
    allowed = {caller for caller, error in outcomes.items() if not isinstance(error, REFUSED)}
    assert allowed == ALLOWED[rpc], outcomes


@together
@pytest.mark.parametrize(("identity", "scope"), [("imap", Scope.SCOPE_API), ("pop3", Scope.SCOPE_IMAP), ("smtp", 1)])
async def test_a_gateway_gets_sessions_of_its_own_protocol_alone(core: Served, identity: str, scope: int) -> None:
    with pytest.raises(errors.PermissionDenied):
        await core.session("bob", scope, identity=identity)


def test_the_streams_that_take_several_requests_are_played_with_one() -> None:
    """`as_a_stream` sends one request to Accept; an empty one begins nothing."""
    assert AcceptRequest().WhichOneof("step") is None
