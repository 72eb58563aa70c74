"""Server streams in frames from a gateway to the real core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from restante import errors
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante.v1 import methods
from restante.v1.folder_pb2 import OpenFolderRequest
from restante.v1.message_pb2 import (
    SECTION_KIND_WHOLE,
    MessageSet,
    Section,
    StreamMessagesRequest,
    StreamMessagesResponse,
)
from restante.v1.session_pb2 import SCOPE_IMAP, AuthenticateRequest, ClientContext
from restante.v1.types_pb2 import IdRange, UidSet
from restante_gateways.core import frames, streams
from restante_gateways.core.frame_streams import FrameStream
from restante_gateways.core.frames import Frames
from restante_process.frames import FIRST_ROOM_OCTETS, SOCKET_NAME
from restante_server.api.engine.frame_streams import StreamConnection
from tests.harness.local_core import LocalCore, address, open_local_core, password

MAX_RESPONSE = 256 << 10
MESSAGES = 30
OCTETS = 60_000  # of a message: 2 MB in all, more than the kernel and the gateway hold


class Read:
    """A link in frames, and requests of alice's."""

    def __init__(self, core: LocalCore, link: CoreLink, token: bytes, folder_id: int) -> None:
        self.core, self.link, self.token, self.folder_id = core, link, token, folder_id

    @property
    def request(self) -> StreamMessagesRequest:
        uids = UidSet(folder_id=self.folder_id, ranges=[IdRange(first=1, last=1 << 31)])
        return StreamMessagesRequest(messages=MessageSet(uids=uids), sections=[Section(kind=SECTION_KIND_WHOLE)])

    def messages(self) -> AsyncGenerator[StreamMessagesResponse]:
        stream = self.link.stream_messages(self.request, session=self.token)
        assert isinstance(stream, AsyncGenerator)
        return stream

    @property
    def calls(self) -> list[StreamConnection]:
        """The calls that the core carries in frames."""
        found = self.core.process.server._frames.connections
        return [each for each in found if isinstance(each, StreamConnection)]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def opened(store_template: Path, tmp_path: Path) -> AsyncIterator[Read]:
    async with open_local_core(store_template, tmp_path / "data") as core:
        for number in range(MESSAGES):
            await core.deliver("alice", b"Subject: %d\r\n\r\n" % number + b"x" * OCTETS + b"\r\n")
        own = Frames()
        link: CoreLink = await core.link("imap", open_carrier=own, open_server_stream=own.call)
        yield Read(core, link, await logged_in(link), (await core.folder("alice")).folder_id)


async def logged_in(link: CoreLink) -> bytes:
    """The token of a session of alice's at the gateway."""
    request = AuthenticateRequest(
        mechanism="PLAIN",
        response=f"\0{address('alice')}\0{password('alice')}".encode(),
        scope=SCOPE_IMAP,
        client=ClientContext(tls=True, client_address="192.0.2.1"),
    )
    answer = await link.execute(methods.AUTHENTICATE, request)
    return answer.session.session_token


def subjects(responses: list[StreamMessagesResponse]) -> list[bytes]:
    cells = [octets for each in responses for section in each.rows.sections for octets in section.octets]
    return [octets.partition(b"\r\n")[0] for octets in cells]


EVERY = [b"Subject: %d" % number for number in range(MESSAGES)]


async def test_a_folder_is_read_in_frames_as_by_grpc(opened: Read) -> None:
    in_frames = [each async for each in opened.messages()]
    assert subjects(in_frames) == EVERY
    assert opened.link._server_streams == set()
    await until(lambda: not opened.calls)
    by_grpc: CoreLink = await opened.core.link("imap")
    assert in_frames == [each async for each in by_grpc.stream_messages(opened.request, session=opened.token)]
    folder = OpenFolderRequest(folder_id=opened.folder_id)
    opened_in_frames = [each async for each in opened.link.open_folder(folder, session=opened.token)]
    assert opened_in_frames == [each async for each in by_grpc.open_folder(folder, session=opened.token)] != []


async def test_a_client_that_reads_nothing_holds_one_response_and_what_the_kernel_holds(opened: Read) -> None:
    stream = opened.messages()
    got = [await anext(stream)]
    (call,) = opened.calls
    await until(lambda: not call._room.is_set())
    await asyncio.sleep(0.2)
    (other,) = opened.link._server_streams
    assert isinstance(other, FrameStream)
    assert call._transport.get_write_buffer_size() <= MAX_RESPONSE
    assert len(other._buffer._buffer) <= MAX_RESPONSE + FIRST_ROOM_OCTETS
    got += [each async for each in stream]
    assert subjects(got) == EVERY


async def test_a_client_that_leaves_ends_the_call(opened: Read) -> None:
    stream = opened.messages()
    await anext(stream)
    await stream.aclose()
    await until(lambda: not opened.calls)
    assert opened.link._server_streams == set()


async def test_more_streams_than_may_have_connections_go_by_grpc(opened: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_STREAMS", 1)
    first, second = opened.messages(), opened.messages()
    await anext(first)
    assert subjects([each async for each in second]) == EVERY
    third = opened.messages()
    await anext(third)
    assert len(opened.calls) == 1
    await first.aclose()
    await third.aclose()
    await until(lambda: not opened.calls)
    fourth = opened.messages()
    await anext(fourth)
    assert len(opened.calls) == 1
    await fourth.aclose()


async def test_refusals_have_their_reason(opened: Read) -> None:
    with pytest.raises(errors.InvalidSession):
        await anext(opened.link.stream_messages(opened.request, session=b"nonsense"))
    opened.folder_id = 4711
    with pytest.raises(errors.FolderNotFound):
        await anext(opened.messages())
    own = Frames()
    wrong = await CoreLink.connect(
        Target(opened.core.target().address, ProcessIdentity("imap", "wrong")), open_server_stream=own.call
    )
    try:
        with pytest.raises(errors.InvalidSession, match="secret"):
            await anext(wrong.stream_messages(opened.request, session=opened.token))
    finally:
        await wrong.close()
    target = opened.core.target("imap")
    stream = own.call(target, "MessageService/Nothing", target.metadata, opened.request, StreamMessagesResponse)
    assert stream is not None
    with pytest.raises(errors.UnknownOperation):
        await stream.read()


async def test_the_stream_of_an_ended_session_ends(opened: Read) -> None:
    stream = opened.messages()
    await anext(stream)
    await opened.core.end_sessions("alice")
    with pytest.raises(errors.SessionRevoked):
        async for _ in stream:
            pass


async def test_a_stream_resumes_at_the_core_after_a_restart(opened: Read) -> None:
    def open_stream(request: StreamMessagesRequest) -> AsyncIterator[StreamMessagesResponse]:
        return opened.link.stream_messages(request, session=opened.token)

    got: list[StreamMessagesResponse] = []
    async for each in streams.messages(open_stream, opened.request):
        got.append(each)
        if len(got) == 2:
            await opened.core.stop()
            await opened.core.start()
    octets = b"".join(
        octets for each in got for octets in (*(c for s in each.rows.sections for c in s.octets), each.rest.octets)
    )
    assert octets.count(b"Subject: ") == MESSAGES
    assert octets.count(b"x") == MESSAGES * OCTETS


async def test_closing_the_link_ends_a_waiting_read(opened: Read) -> None:
    stream = opened.messages()
    await anext(stream)
    await opened.link.close()
    with pytest.raises(errors.Draining):
        async for _ in stream:
            pass


async def test_a_core_without_the_socket_is_read_by_grpc(opened: Read) -> None:
    opened.core.process.socket.with_name(SOCKET_NAME).unlink()
    assert subjects([each async for each in opened.messages()]) == EVERY


async def test_a_socket_that_a_killed_core_left_behind_is_not_tried_for_ever(opened: Read) -> None:
    await opened.core.process.server._frames.stop(0.0)  # without removing the file
    with pytest.raises(errors.UnknownReason):
        await anext(opened.messages())
    assert subjects([each async for each in opened.messages()]) == EVERY
