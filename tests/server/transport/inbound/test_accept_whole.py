"""Acceptances in one message of the stream: begin, content and commit together."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptRequest, AcceptResponse
from restante_server.api.services import accept
from tests.server.transport.world import FOREVER, MESSAGE, TRACE, World, reason


def begin(content: bytes = b"", *, whole: bool = False, request_id: bytes | None = None) -> AcceptBegin:
    return AcceptBegin(
        request_id=request_id or secrets.token_bytes(16),
        reverse_path="dave@example.org",
        recipients=[EnvelopeRecipient(forward_path="alice@example.test")],
        trace_field=TRACE,
        content=content,
        whole=whole,
    )


async def answers(world: World, *requests: AcceptRequest) -> list[AcceptResponse]:
    async def sent() -> AsyncIterator[AcceptRequest]:
        for request in requests:
            yield request

    stream = accept.accept(world.call(world.gateway(), FOREVER), sent())
    return [response async for response in stream if not response.granted_octets]


async def test_one_message_of_the_stream_is_enough(world: World) -> None:
    (answer,) = await answers(world, AcceptRequest(acceptance_id=1, start=begin(MESSAGE, whole=True)))
    assert answer.accepted
    assert [letter.content for letter in await world.letters("alice")] == [MESSAGE]


async def test_content_may_begin_with_the_start_and_go_on(world: World) -> None:
    (answer,) = await answers(
        world,
        AcceptRequest(acceptance_id=1, start=begin(MESSAGE[:20])),
        AcceptRequest(acceptance_id=1, chunk=MESSAGE[20:]),
        AcceptRequest(acceptance_id=1, commit=True),
    )
    assert answer.accepted
    assert [letter.content for letter in await world.letters("alice")] == [MESSAGE]


async def test_however_it_is_cut_one_request_id_is_one_acceptance(world: World) -> None:
    same = secrets.token_bytes(16)
    (first,) = await answers(world, AcceptRequest(acceptance_id=1, start=begin(MESSAGE, whole=True, request_id=same)))
    (again,) = await answers(
        world,
        AcceptRequest(acceptance_id=5, start=begin(request_id=same)),
        AcceptRequest(acceptance_id=5, chunk=MESSAGE),
        AcceptRequest(acceptance_id=5, commit=True),
    )
    assert first.accepted and again.accepted
    assert first.transport_id == again.transport_id
    assert len(await world.letters("alice")) == 1


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\0b\r\n", b"x" * ((256 << 10) + 1)])
async def test_what_is_wrong_is_refused_and_leaves_nothing(world: World, content: bytes) -> None:
    (answer,) = await answers(world, AcceptRequest(acceptance_id=1, start=begin(content, whole=True)))
    assert reason(answer) in {"INVALID_CONTENT", "INVALID_ARGUMENT"}
    assert await world.letters("alice") == []
