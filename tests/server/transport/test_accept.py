"""Mail from other servers: taken once, delivered at once, and every recipient with an end."""

from __future__ import annotations

import secrets

from restante_server.transport.states import State
from tests.server.transport.world import MESSAGE, TRACE, World


async def test_accepted_mail_is_in_the_inbox_with_its_head(world: World) -> None:
    answer = await world.accept(["Alice@example.test"])
    assert answer.accepted
    (letter,) = await world.letters("alice")
    # behaviour 89, RFC 5321 4.4
    head = b"Return-Path: <dave@example.org>\r\nDelivered-To: Alice@example.test\r\n" + TRACE.encode()
    assert letter.head == head
    assert letter.content == MESSAGE
    assert await world.states(answer.transport_id) == [("Alice@example.test", State.DELIVERED, "2.1.5")]


async def test_a_repeated_request_id_gets_the_first_answer(world: World) -> None:
    request_id = secrets.token_bytes(16)
    first = await world.accept(["alice@example.test"], request_id=request_id)
    again = await world.accept(["alice@example.test"], request_id=request_id)
    assert (first.accepted, first.transport_id) == (again.accepted, again.transport_id)
    assert len(await world.letters("alice")) == 1
    other = await world.accept(["bob@example.test"], request_id=request_id)
    assert other.reason == "REQUEST_ID_REUSED"
    assert await world.letters("bob") == []
