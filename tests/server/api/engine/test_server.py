"""The API with real clients: over a Unix socket, TLS and mutual TLS (docs/design.md "Trust and identities")."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from sqlalchemy import Connection, text

from restante import errors
from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.admin_pb2 import GetStatisticsRequest, GetStatisticsResponse
from restante.v1.batch_pb2 import ExecuteOnceRequest, ExecuteRequest, Operation, OperationResult
from restante.v1.folder_pb2 import GetFolderRequest, ListFoldersRequest
from restante.v1.mailbox_pb2 import GetMailboxRequest
from restante.v1.message_pb2 import (
    DELETE_MODE_HARD,
    SECTION_KIND_WHOLE,
    AppendMessageRequest,
    BatchGetMessagesRequest,
    DeleteMessagesRequest,
    MatchingMessages,
    MessageSet,
    Section,
)
from restante.v1.session_pb2 import GetSessionRequest, Scope
from restante.v1.types_pb2 import CommitToken, MessageIdSet
from restante_gateways.core.frames import Frames
from restante_server.api.engine import batches
from restante_server.api.engine.call import Call
from restante_server.api.engine.identity import bearer_token
from restante_server.api.engine.registry import HandlerKind
from restante_server.api.engine.server import SERVICES
from restante_server.api.services import scans
from tests.harness.execute_stream import BINDINGS, ExecuteStream
from tests.server.api.served import Served, operation, request_id, served, token_metadata

together = pytest.mark.asyncio(loop_scope="module")
over_each_binding = pytest.mark.parametrize("binding", BINDINGS)

ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("server"))) as made:
        yield made


async def whoami(core: Served, channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> errors.RestanteError | None:
    """The error of an administrator's call by the caller of this metadata and connection; None for success."""
    try:
        await core.stub("AdminService/GetStatistics", channel)(GetStatisticsRequest(), metadata=metadata, timeout=10)
    except grpc.aio.AioRpcError as error:
        return errors.from_rpc_error(error)
    return None


# --- Identities of callers --------------------------------------------------------------------------------------------


@together
async def test_the_unix_socket_takes_a_process_at_its_secret(core: Served) -> None:
    channel = core.channel()
    right = core.secret("admin")
    assert await whoami(core, channel, *core.identity("admin")) is None
    for wrong in ("", "00", right[:-1], right.upper() + "x", core.secret("imap")):
        claimed = (("restante-identity", "admin"), ("restante-secret", wrong))
        assert isinstance(await whoami(core, channel, *claimed), errors.InvalidSession)
    assert isinstance(await whoami(core, channel, ("restante-identity", "root")), errors.InvalidSession)
    assert isinstance(await whoami(core, channel, *core.identity("relay")), errors.PermissionDenied)


@together
async def test_a_secret_proves_nothing_over_the_network(core: Served) -> None:
    channel = core.channel(core.tls_address)
    assert isinstance(await whoami(core, channel, *core.identity("admin")), errors.InvalidSession)
    session = await core.session("alice", channel=channel)  # while people log on there as anywhere
    assert await whoami(core, channel, *token_metadata(session.session_token)) is None


@together
async def test_tls_is_proven_to_the_client(core: Served) -> None:
    stranger = type(core.authority)()
    channel = core.channel(core.tls_address, trust=stranger.certificate)
    with pytest.raises(errors.RestanteError) as caught:
        await core.session("alice", channel=channel)
    assert isinstance(caught.value, errors.UnknownReason)


@together
async def test_on_the_mutual_tls_port_the_certificate_says_who_it_is(core: Served) -> None:
    relay = core.channel(core.mutual_address, pair=core.authority.pair("restante-relay"))
    assert isinstance(await whoami(core, relay), errors.PermissionDenied)  # known, and no administrator
    imap = core.channel(core.mutual_address, pair=core.authority.pair("restante-imap"))
    for unproven in ("restante-admin", "imap", "restante-", "restante-imap2", "RESTANTE-imap", ""):
        channel = core.channel(core.mutual_address, pair=core.authority.pair(unproven))
        assert isinstance(await whoami(core, channel), errors.InvalidSession), unproven
    claims = core.identity("admin")  # a secret beside the certificate changes nothing
    assert isinstance(await whoami(core, imap, *claims), errors.PermissionDenied)


@together
@pytest.mark.parametrize("pair", ["none", "of another authority"])
async def test_without_a_certificate_of_ours_the_mutual_tls_port_says_nothing(core: Served, pair: str) -> None:
    stranger = type(core.authority)()
    given = None if pair == "none" else stranger.pair("restante-imap")
    problem = await whoami(core, core.channel(core.mutual_address, pair=given))
    assert isinstance(problem, errors.UnknownReason) and problem.status_code is grpc.StatusCode.UNAVAILABLE


@together
async def test_a_token_is_good_on_the_kind_of_connection_it_was_issued_on(core: Served) -> None:
    by_gateway = await core.session("bob", Scope.SCOPE_IMAP, identity="imap")
    mutual = core.channel(core.mutual_address, pair=core.authority.pair("restante-imap"))
    request = GetSessionRequest()
    good = await core.call("SessionService/GetSession", request, token=by_gateway.session_token, channel=mutual)
    assert good.session.account_id == by_gateway.account_id  # the same gateway, elsewhere
    other = core.channel(core.mutual_address, pair=core.authority.pair("restante-pop3"))
    for channel in (other, core.channel(core.tls_address)):
        with pytest.raises(errors.InvalidSession):
            await core.call("SessionService/GetSession", request, token=by_gateway.session_token, channel=channel)


@together
@pytest.mark.parametrize("entry", ["Bearer", "Bearer %%%", "Basic Ym9iOg==", "Bearer AAAA", "Bearer " + "A" * 4000])
async def test_junk_is_no_session(core: Served, entry: str) -> None:
    problem = await whoami(core, core.channel(), ("authorization", entry))
    assert isinstance(problem, errors.InvalidSession)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("token", [b"\xfb\xff\xbf", b"\xfb\xff\xbf>", b"\xfb\xff\xbf>?"])
def test_a_token_may_come_in_either_alphabet_padded_or_not(token: bytes, encode: Callable[[bytes], bytes]) -> None:
    text = encode(token).decode()
    assert bearer_token(f"Bearer {text}") == bearer_token(f"bearer {text.rstrip('=')}") == token


# --- Health, reflection, status ------------------------------------------------------------------------------------


@together
async def test_every_service_is_healthy_and_described(core: Served) -> None:
    channel = core.channel(core.tls_address)
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    names = {service.full_name for service in SERVICES}
    for name in ("", *names):
        health = await check(health_pb2.HealthCheckRequest(service=name))
        assert health.status == health_pb2.HealthCheckResponse.SERVING, name


@together
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_services_methods_and_the_reasons(core: Served, version: str) -> None:
    reflect = core.channel(core.tls_address).stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    names = [service.full_name for service in SERVICES]
    wanted = [*names, "restante.v1.ErrorReason", "google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
    wanted += ["restante.v1.FolderService.GetFolder", "restante.v1.Folder.folder_id"]
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    asked += [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        for name in [*wanted, "restante.v1.Nothing.at_all"]
    ]
    call = reflect(iter(asked))
    listed: Any = await call.read()
    assert set(names) <= {service.name for service in listed.list_services_response.service}
    for name in wanted:
        described: Any = await call.read()
        assert described.file_descriptor_response.file_descriptor_proto, name
    nothing: Any = await call.read()
    assert nothing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@together
async def test_an_error_is_the_same_on_every_way(core: Served) -> None:
    token = (await core.session("bob")).session_token
    request = GetFolderRequest(folder_id=987)
    (result,) = await core.operate(operation("FolderService/GetFolder", request, token=token))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await core.stub("FolderService/GetFolder")(request, metadata=token_metadata(token))
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status == result.status
    assert (status.code, status.message) == (caught.value.code().value[0], caught.value.details())
    info = error_info(status)
    assert (info.domain, info.reason, dict(info.metadata)) == ("restante", "FOLDER_NOT_FOUND", {"folder_id": "987"})


@together
async def test_an_exception_is_answered_with_a_number_and_nothing_else(
    core: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("SELECT secrets FROM somewhere")

    handlers = core.process.server.registry.unary
    monkeypatch.setitem(handlers, "get_folder", replace(handlers["get_folder"], run=fail))
    token = (await core.session("bob")).session_token
    (result,) = await core.operate(operation("FolderService/GetFolder", GetFolderRequest(folder_id=1), token=token))
    info = error_info(result.status)
    assert info.reason == "INTERNAL" and "secrets" not in str(result.status)
    assert info.metadata["incident"] in caplog.text and "secrets" in caplog.text


# --- Deadlines and cancellation reach the SQL -------------------------------------------------------------------------


@pytest.fixture
def endless(core: Served, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, HandlerKind], None]:
    """A function that makes an RPC run for ever."""

    def statistics(tx: Connection, call: Call, request: Any) -> GetStatisticsResponse:
        return GetStatisticsResponse(domain_count=tx.execute(ENDLESS).scalar_one())

    def put(field: str, kind: HandlerKind) -> None:
        handlers = core.process.server.registry.unary
        monkeypatch.setitem(handlers, field, replace(handlers[field], run=statistics, kind=kind))

    return put


def begin_statistics(core: Served) -> Any:
    """Begin the call."""
    batch = ExecuteOnceRequest(operations=[operation("AdminService/GetStatistics", GetStatisticsRequest())])
    return core.stub("BatchService/ExecuteOnce")(batch, metadata=core.identity("admin"), timeout=30)


async def reads_end(core: Served) -> None:
    """Wait until no reader thread is busy."""
    async with asyncio.timeout(3):
        while core.core.db.waiting_reads:
            await asyncio.sleep(0.02)


@together
@pytest.mark.parametrize("kind", [HandlerKind.READ, HandlerKind.SLOW_READ])
async def test_a_deadline_interrupts_the_statement(core: Served, endless: Any, kind: HandlerKind) -> None:
    endless("get_statistics", kind)
    began = time.monotonic()
    asked = operation("AdminService/GetStatistics", GetStatisticsRequest(), timeout_milliseconds=300)
    (result,) = await core.operate(asked, identity="admin")
    assert error_info(result.status).reason == "DEADLINE_EXCEEDED"
    assert 0.25 < time.monotonic() - began < 2
    await reads_end(core)


@together
async def test_a_client_that_leaves_interrupts_the_statement(core: Served, endless: Any) -> None:
    endless("get_statistics", HandlerKind.SLOW_READ)
    call = begin_statistics(core)
    await asyncio.sleep(0.3)
    assert core.core.db.waiting_reads == 1
    call.cancel()
    await reads_end(core)


async def results_of(stream: ExecuteStream) -> Sequence[OperationResult]:
    """The results of the next response."""
    response = await stream.read()
    assert response is not None
    return response.results


@together
@over_each_binding
async def test_an_operation_can_be_cancelled_while_it_runs(core: Served, endless: Any, binding: str) -> None:
    endless("get_statistics", HandlerKind.SLOW_READ)
    stream = await core.execute_stream(binding, "admin")
    await stream.write(ExecuteRequest(operations=[operation("AdminService/GetStatistics", GetStatisticsRequest())]))
    await asyncio.sleep(0.2)
    await stream.write(ExecuteRequest(cancel_operation_ids=[1]))
    (result,) = await results_of(stream)
    assert error_info(result.status).reason == "CANCELLED"
    await stream.done_writing()
    assert await stream.read() is None
    await reads_end(core)


@together
@over_each_binding
async def test_a_client_that_leaves_its_stream_interrupts_the_statement(
    core: Served, endless: Any, binding: str
) -> None:
    endless("get_statistics", HandlerKind.SLOW_READ)
    stream = await core.execute_stream(binding, "admin")
    await stream.write(ExecuteRequest(operations=[operation("AdminService/GetStatistics", GetStatisticsRequest())]))
    async with asyncio.timeout(3):
        while not core.core.db.waiting_reads:
            await asyncio.sleep(0.01)
    stream.cancel()
    await reads_end(core)
    async with asyncio.timeout(3):
        while core.process.server._batches._executions:
            await asyncio.sleep(0.01)


@together
@over_each_binding
async def test_a_bulk_write_can_be_cancelled_while_its_restriction_is_evaluated(
    core: Served, monkeypatch: pytest.MonkeyPatch, binding: str
) -> None:
    begun = asyncio.Event()

    async def endless(*_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(scans, "matches", endless)
    token = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    everything = MessageSet(matching=MatchingMessages())
    delete = DeleteMessagesRequest(messages=everything, mode=DELETE_MODE_HARD)
    stream = await core.execute_stream(binding, "imap")
    for more, cancel in (({}, True), ({"timeout_milliseconds": 300}, False)):
        begun.clear()
        made = operation("MessageService/DeleteMessages", delete, token=token, **more)
        await stream.write(ExecuteRequest(operations=[made]))
        async with asyncio.timeout(10):
            await begun.wait()
            if cancel:
                await stream.write(ExecuteRequest(cancel_operation_ids=[1]))
            (result,) = await results_of(stream)
        assert error_info(result.status).reason == ("CANCELLED" if cancel else "DEADLINE_EXCEEDED")
    stream.cancel()


@together
async def test_one_sessions_slow_read_keeps_nobody_waiting(core: Served, endless: Any) -> None:
    endless("get_statistics", HandlerKind.SLOW_READ)
    slow = begin_statistics(core)
    token = (await core.session("bob")).session_token
    began = time.monotonic()
    for _ in range(20):
        await core.call("FolderService/ListFolders", ListFoldersRequest(), token=token)
    assert time.monotonic() - began < 5
    assert core.core.db.waiting_reads == 1
    slow.cancel()
    await reads_end(core)


# --- Read your writes ------------------------------------------------------------------------------------------------


async def append(core: Served, token: bytes, content: bytes = b"Subject: a\r\n\r\nb\r\n") -> Any:
    request = AppendMessageRequest(folder_id=1, content=content, request_id=request_id())
    return await core.call("MessageService/AppendMessage", request, token=token)


@together
async def test_min_commit_waits_for_a_commit_that_comes(core: Served) -> None:
    token = (await core.session("bob")).session_token
    now: CommitToken = (await append(core, token)).commit
    later = CommitToken(mailbox_id=now.mailbox_id, change_number=now.change_number + 1, epoch=now.epoch)
    request = GetMailboxRequest(min_commit=later)
    waiting = asyncio.create_task(core.call("MailboxService/GetMailbox", request, token=token))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await append(core, token)
    assert (await waiting).mailbox.change_number >= later.change_number


@together
async def test_min_commit_that_does_not_come_in_time_says_so(core: Served) -> None:
    token = (await core.session("bob")).session_token
    now: CommitToken = (await append(core, token)).commit
    later = CommitToken(mailbox_id=now.mailbox_id, change_number=now.change_number + 9, epoch=now.epoch)
    request = GetMailboxRequest(min_commit=later)
    asked = operation("MailboxService/GetMailbox", request, token=token, timeout_milliseconds=200)
    (result,) = await core.operate(asked)
    info = error_info(result.status)
    assert info.reason == "COMMIT_NOT_REACHED"
    assert info.metadata["change_number"] == str(later.change_number)
    later.epoch += 1
    with pytest.raises(errors.EpochChanged):
        await core.call("MailboxService/GetMailbox", GetMailboxRequest(min_commit=later), token=token)


# --- Sizes ---------------------------------------------------------------------------------------------------------


@together
async def test_a_result_too_large_for_an_operation_names_the_stream(core: Served) -> None:
    token = (await core.session("carol")).session_token
    line = b"x" * 70 + b"\r\n"
    placed = await append(core, token, b"Subject: large\r\n\r\n" + line * 1_500)
    request = BatchGetMessagesRequest(
        messages=MessageSet(ids=MessageIdSet(message_ids=[placed.message_id])),
        sections=[Section(kind=SECTION_KIND_WHOLE)],
    )
    (result,) = await core.operate(operation("MessageService/BatchGetMessages", request, token=token))
    info = error_info(result.status)
    assert info.reason == "RESULT_TOO_LARGE"
    assert info.metadata["rpc"] == "MessageService/StreamMessages"
    answer = await core.call("MessageService/BatchGetMessages", request, token=token)  # a separate call may get it
    assert answer.rows.sections[0].total_octets == [placed.size_octets]


@together
async def test_a_request_above_the_limit_is_refused_and_the_connection_goes_on(core: Served) -> None:
    token = (await core.session("bob")).session_token
    channel = core.channel()
    huge = AppendMessageRequest(folder_id=1, content=b"x" * (3 << 20), request_id=request_id())
    with pytest.raises(errors.UnknownReason) as caught:
        await core.call("MessageService/AppendMessage", huge, token=token, channel=channel)
    assert caught.value.status_code is grpc.StatusCode.RESOURCE_EXHAUSTED
    many = [operation("FolderService/GetFolder", GetFolderRequest(), operation_id=n) for n in range(1, 258)]
    with pytest.raises(errors.InvalidArgument):
        await core.operate(*many, channel=channel)
    with pytest.raises(errors.InvalidArgument):
        await core.operate(many[0], many[0], channel=channel)  # one id for two
    assert await core.call("FolderService/ListFolders", ListFoldersRequest(), token=token, channel=channel)


@together
@over_each_binding
async def test_a_batch_of_too_many_ends_the_stream_after_the_answers_to_those_before(
    core: Served, binding: str
) -> None:
    token = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    stream = await core.execute_stream(binding, "imap")
    good = operation("FolderService/ListFolders", ListFoldersRequest(), token=token)
    await stream.write(ExecuteRequest(operations=[good]))
    many = [operation("FolderService/GetFolder", GetFolderRequest(), operation_id=n) for n in range(2, 259)]
    await stream.write(ExecuteRequest(operations=many))
    (answered,) = await results_of(stream)
    assert answered.list_folders.folders
    with pytest.raises(errors.InvalidArgument, match="at most 256"):
        await stream.read()


@together
@over_each_binding
async def test_a_batch_above_1_mib_is_answered_with_the_reason_and_above_2_mib_ends_the_stream(
    core: Served, binding: str
) -> None:
    token = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    huge = AppendMessageRequest(folder_id=1, content=b"x" * (600 << 10), request_id=request_id())
    large = [operation("MessageService/AppendMessage", huge, token=token, operation_id=n) for n in (1, 2)]
    stream = await core.execute_stream(binding, "imap")
    await stream.write(ExecuteRequest(operations=large))
    reasons: dict[int, errors.RestanteError] = {}
    while len(reasons) < 2:
        found = await results_of(stream)
        reasons |= {result.operation_id: errors.from_status(result.status) for result in found}
    for refused in reasons.values():
        assert isinstance(refused, errors.InvalidArgument) and refused.metadata["field"] == "operations"
    await stream.write(
        ExecuteRequest(operations=[operation("FolderService/ListFolders", ListFoldersRequest(), token=token)])
    )
    (answered,) = await results_of(stream)
    assert answered.list_folders.folders, "the stream goes on"
    await stream.write(ExecuteRequest(operations=[*large, *large]))
    with pytest.raises(errors.UnknownReason) as ended:
        await stream.read()
    assert ended.value.status_code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not ended.value.reason, "without a reason, as errors.proto says"
    with pytest.raises(errors.InvalidArgument):
        await core.operate(*large)


@together
@over_each_binding
async def test_a_client_that_only_sends_is_held_back(core: Served, binding: str) -> None:
    """Unread answers stay limited, because the core stops reading."""
    stream = await core.execute_stream(binding, "imap")
    sent = 0
    junk = [Operation(operation_id=number, session_token=secrets.token_bytes(32)) for number in range(1, 257)]

    async def flood() -> None:
        nonlocal sent
        while True:
            await stream.write(ExecuteRequest(operations=junk))
            sent += len(junk)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await flood()
    (execution,) = core.process.server._batches._executions
    assert len(execution._results) <= 1_024 + 256
    assert len(execution._sessions) <= 1  # a session that never ran an operation leaves nothing
    stream.cancel()
    async with asyncio.timeout(3):
        while core.process.server._batches._executions:
            await asyncio.sleep(0.01)


# --- Age and draining ------------------------------------------------------------------------------------------------


async def keep_asking(link: CoreLink, token: bytes, until: Callable[[], bool]) -> int:
    """Run operations one after the other until `until()`; each must be answered. Returns their number."""
    done = 0
    while not until():
        await link.execute(methods.GET_MAILBOX, GetMailboxRequest(), session=token)
        done += 1
    return done


@together
@over_each_binding
async def test_an_old_stream_is_given_up_and_nothing_is_lost(
    core: Served, monkeypatch: pytest.MonkeyPatch, binding: str
) -> None:
    monkeypatch.setattr(batches, "MAX_STREAM_AGE_SECONDS", 0.3)
    token = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
    link = await core.link("imap", open_carrier=Frames() if binding == "frames" else None)
    streams: set[int] = set()
    end = time.monotonic() + 2

    def until() -> bool:
        streams.add(id(link._operations._stream))
        return time.monotonic() > end

    try:
        done = await asyncio.gather(*(keep_asking(link, token, until) for _ in range(8)))
    finally:
        await link.close()
    assert min(done) > 5 and len(streams) > 2  # it moved several times


@together
@over_each_binding
async def test_an_old_stream_answers_what_it_has_and_ends(
    core: Served, monkeypatch: pytest.MonkeyPatch, binding: str
) -> None:
    monkeypatch.setattr(batches, "MAX_STREAM_AGE_SECONDS", 0.1)
    stream = await core.execute_stream(binding, "imap")
    response = await stream.read()
    assert response is not None and response.draining
    await stream.write(ExecuteRequest(operations=[operation("SessionService/GetSession", GetSessionRequest())]))
    (result,) = await results_of(stream)
    assert error_info(result.status).reason == "INVALID_SESSION"  # still served
    await stream.done_writing()
    assert await stream.read() is None


@over_each_binding
async def test_a_core_that_goes_away_says_so_and_answers_what_it_has(tmp_path: Path, binding: str) -> None:
    async with served(tmp_path) as core:
        token = (await core.session("bob", Scope.SCOPE_IMAP, identity="imap")).session_token
        execute = await core.execute_stream(binding, "imap")
        listing = operation("FolderService/ListFolders", ListFoldersRequest(), token=token)
        await execute.write(ExecuteRequest(operations=[listing]))
        assert await results_of(execute)
        metadata = (*core.identity("imap"), *token_metadata(token))
        watch = core.stub("SyncService/Watch")(metadata=metadata)
        await watch.wait_for_connection()
        await asyncio.sleep(0.1)
        core.core.tasks.announce_drain()
        stopping = asyncio.create_task(core.process.server.stop(2.0))
        response = await execute.read()
        assert response is not None and response.draining
        assert (await watch.read()).draining
        listing.operation_id = 2
        await execute.write(ExecuteRequest(operations=[listing]))  # sent before the announcement arrived
        (answered,) = await results_of(execute)
        assert answered.HasField("list_folders")
        await execute.done_writing()
        assert await execute.read() is None
        watch.cancel()
        async with asyncio.timeout(5):
            await stopping
