"""The Accept stream: octets only as granted, one outcome for each acceptance, lost connections reported as Draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from restante import errors
from restante.accept import FIRST_GRANT_OCTETS, MAX_CHUNK_OCTETS
from restante.v1.transport_pb2 import AcceptBegin, AcceptRequest, AcceptResponse
from tests.clients.python.conftest import Servers
from tests.clients.python.test_watch import until


class Transport:
    """Accept with answers by a test, without the other RPCs of the service."""

    def __init__(self) -> None:
        self.requests: list[AcceptRequest] = []
        self.streams: list[asyncio.Queue[AcceptResponse | None]] = []

    def received(self, acceptance_id: int) -> int:
        return sum(len(each.chunk) for each in self.requests if each.acceptance_id == acceptance_id)

    def tell(self, **response: Any) -> None:
        self.streams[-1].put_nowait(AcceptResponse(**response))

    def add_to(self, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            self.accept, AcceptRequest.FromString, AcceptResponse.SerializeToString
        )
        generic = grpc.method_handlers_generic_handler("restante.v1.TransportService", {"Accept": handler})
        server.add_generic_rpc_handlers((generic,))

    async def accept(
        self, request_iterator: AsyncIterator[AcceptRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[AcceptResponse]:
        stream: asyncio.Queue[AcceptResponse | None] = asyncio.Queue()
        self.streams.append(stream)

        async def take() -> None:
            async for request in request_iterator:
                self.requests.append(request)

        taking = asyncio.create_task(take())
        try:
            while (response := await stream.get()) is not None:
                yield response
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        finally:
            taking.cancel()


def begin() -> AcceptBegin:
    return AcceptBegin(request_id=b"0123456789abcdef", reverse_path="bob@example.org")


@pytest.fixture
async def core(servers: Servers) -> Transport:
    transport = Transport()
    await servers.start(transport.add_to)
    return transport


def commits(core: Transport) -> list[int]:
    return [each.acceptance_id for each in core.requests if each.HasField("commit")]


async def test_a_message_is_begun_sent_in_chunks_and_committed(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    acceptance = link.accept.start(begin())
    await acceptance.feed(bytes(600_000))
    committing = asyncio.create_task(acceptance.commit())
    await until(lambda: commits(core))
    assert core.requests[0].start.reverse_path == "bob@example.org"
    assert core.received(1) == 600_000
    assert max(len(each.chunk) for each in core.requests) <= MAX_CHUNK_OCTETS
    assert not committing.done()  # not before the core's answer
    core.tell(acceptance_id=1, accepted=True, transport_id=77)
    assert (await committing).transport_id == 77


async def test_no_more_octets_are_sent_than_granted(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    acceptance = link.accept.start(begin())
    feeding = asyncio.create_task(acceptance.feed(bytes(3 << 20)))
    await until(lambda: core.received(1) == FIRST_GRANT_OCTETS)
    await asyncio.sleep(0.1)
    assert core.received(1) == FIRST_GRANT_OCTETS
    assert not feeding.done()
    core.tell(acceptance_id=1, granted_octets=512 << 10)
    await until(lambda: core.received(1) == FIRST_GRANT_OCTETS + (512 << 10))
    core.tell(acceptance_id=1, granted_octets=2 << 20)
    await asyncio.wait_for(feeding, 10)
    await until(lambda: core.received(1) == 3 << 20)


async def test_one_that_waits_for_room_does_not_hold_up_another(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    large, small = link.accept.start(begin()), link.accept.start(begin())
    feeding = asyncio.create_task(large.feed(bytes(2 << 20)))
    await until(lambda: core.received(1) == FIRST_GRANT_OCTETS)
    await small.feed(b"x\r\n")
    committing = asyncio.create_task(small.commit())
    await until(lambda: commits(core) == [2])
    core.tell(acceptance_id=2, accepted=True, transport_id=5)
    assert (await committing).transport_id == 5
    feeding.cancel()


async def test_a_refusal_is_the_class_of_its_reason(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    acceptance = link.accept.start(begin())
    committing = asyncio.create_task(acceptance.commit())
    await until(lambda: commits(core))
    core.tell(acceptance_id=1, status=errors.to_status(errors.MailLoop(hops=101)))
    with pytest.raises(errors.MailLoop):
        await committing


async def test_a_refusal_in_mid_message_ends_the_feeding(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    acceptance = link.accept.start(begin())
    feeding = asyncio.create_task(acceptance.feed(bytes(2 << 20)))
    await until(lambda: core.received(1) == FIRST_GRANT_OCTETS)
    core.tell(acceptance_id=1, status=errors.to_status(errors.MessageTooLarge()))
    with pytest.raises(errors.MessageTooLarge):
        await asyncio.wait_for(feeding, 10)
    with pytest.raises(errors.MessageTooLarge):
        await acceptance.commit()


async def test_a_lost_connection_is_unavailable_and_the_next_message_goes_on_a_new_stream(
    servers: Servers, core: Transport
) -> None:
    link = await servers.link()
    committing = asyncio.create_task(link.accept.start(begin()).commit())
    await until(lambda: commits(core))
    core.streams[-1].put_nowait(None)
    with pytest.raises(errors.RestanteError) as caught:
        await committing
    assert not caught.value.caused_by_client  # the core may have accepted it: the same request_id settles it
    again = asyncio.create_task(link.accept.start(begin()).commit())
    await until(lambda: len(commits(core)) == 2)
    core.tell(acceptance_id=core.requests[-1].acceptance_id, accepted=True, transport_id=9)
    assert (await again).transport_id == 9
    assert len(core.streams) == 2


async def test_draining_finishes_what_has_begun_and_begins_elsewhere(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    first = link.accept.start(begin())
    await first.feed(b"x\r\n")
    await until(lambda: core.received(1))
    before = link._channel
    core.tell(draining=True)
    await asyncio.sleep(0.1)
    second = asyncio.create_task(link.accept.start(begin()).commit())
    await until(lambda: commits(core) == [2])
    assert link._channel is not before
    assert len(core.streams) == 2
    core.tell(acceptance_id=2, accepted=True, transport_id=2)
    assert (await second).transport_id == 2
    committing = asyncio.create_task(first.commit())
    await until(lambda: commits(core) == [2, 1])
    core.streams[0].put_nowait(AcceptResponse(acceptance_id=1, accepted=True, transport_id=1))
    assert (await committing).transport_id == 1


async def test_an_aborted_message_is_forgotten(servers: Servers, core: Transport) -> None:
    link = await servers.link()
    acceptance = link.accept.start(begin())
    await acceptance.feed(b"x\r\n")
    acceptance.abort()
    acceptance.abort()
    await until(lambda: any(each.abort for each in core.requests))
    assert sum(each.abort for each in core.requests) == 1
