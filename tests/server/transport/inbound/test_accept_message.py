"""AcceptMessage: a whole acceptance in one call."""

from __future__ import annotations

import secrets

import pytest

from restante.errors import (
    InvalidArgument,
    InvalidContent,
    RecipientNotFound,
    RequestIdRequired,
    RequestIdReused,
    from_status,
)
from restante.v1.checks_pb2 import CHECK_RESULT_FAIL, DkimCheck, MessageChecks, ReverseDnsCheck
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante_server.api.services.accept_message import MAX_CONTENT_OCTETS, accept_message
from tests.server.transport.world import FOREVER, MESSAGE, TRACE, World


async def take(
    world: World,
    content: bytes = MESSAGE,
    *,
    request_id: bytes | None = None,
    path: str = "alice@example.test",
    checks: MessageChecks | None = None,
) -> int:
    start = AcceptBegin(
        request_id=secrets.token_bytes(16) if request_id is None else request_id,
        reverse_path="dave@example.org",
        recipients=[EnvelopeRecipient(forward_path=path)],
        client_address="192.0.2.1",
        trace_field=TRACE,
    )
    request = AcceptMessageRequest(start=start, content=content, checks=checks)
    return (await accept_message(world.call(world.gateway(), FOREVER), request)).transport_id


async def test_one_call_takes_a_message(world: World) -> None:
    assert await take(world)
    assert [letter.content for letter in await world.letters("alice")] == [MESSAGE]


async def test_one_request_id_is_one_acceptance_by_the_call_and_by_the_stream(world: World) -> None:
    same = secrets.token_bytes(16)
    first = await take(world, request_id=same)
    assert await take(world, request_id=same) == first
    again = await world.accept(
        ["alice@example.test"], MESSAGE, reverse_path="dave@example.org", request_id=same, chunk=7
    )
    assert again.transport_id == first
    assert len(await world.letters("alice")) == 1
    with pytest.raises(RequestIdReused):
        await take(world, MESSAGE + b"more\r\n", request_id=same)


async def test_a_content_of_the_limit_goes_to_a_file_and_arrives(world: World) -> None:
    content = MESSAGE + b"x" * (MAX_CONTENT_OCTETS - len(MESSAGE) - 2) + b"\r\n"
    assert await take(world, content)
    assert [letter.content for letter in await world.letters("alice")] == [content]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a\nb\r\n", InvalidContent),
        (b"a\0b\r\n", InvalidContent),
        (b"x" * (MAX_CONTENT_OCTETS + 1), InvalidArgument),
    ],
)
async def test_a_refused_content_leaves_nothing(world: World, content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await take(world, content)
    assert await world.letters("alice") == []


async def test_results_outside_their_bounds_are_refused_and_leave_nothing(world: World) -> None:
    bad = MessageChecks(dkim=[DkimCheck(result=CHECK_RESULT_FAIL, domain="evil.example\r\nBcc: x")])
    with pytest.raises(InvalidArgument) as refused:
        await take(world, checks=bad)
    assert refused.value.metadata["field"] == "checks.dkim[0].domain"
    answer = await world.accept(["alice@example.test"], checks=bad)
    assert "checks.dkim[0].domain" in str(from_status(answer.status))
    assert await world.letters("alice") == []


async def test_a_repetition_may_bring_other_results(world: World) -> None:
    same = secrets.token_bytes(16)
    first = await take(world, request_id=same)
    other = MessageChecks(reverse_dns=ReverseDnsCheck(result=CHECK_RESULT_FAIL))
    assert await take(world, request_id=same, checks=other) == first


async def test_the_envelope_is_judged_as_on_the_stream(world: World) -> None:
    with pytest.raises(RequestIdRequired):
        await take(world, request_id=b"")
    with pytest.raises(RecipientNotFound):
        await take(world, path="nobody@example.test")
