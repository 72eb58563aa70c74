"""The limits of an account's scheduled mail, in messages and in octets."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from restante.errors import AccountLimitReached, UploadNotFound
from restante.v1.submission_pb2 import CancelSubmissionRequest, SubmitMessageResponse
from restante_server.api.services import convert
from restante_server.transport.schedule import HOUR
from tests.server.transport.world import MESSAGE, World

LETTER = MESSAGE.replace(b"Dave <dave@example.org>", b"NAME@example.test")


def limit(world: World, **limits: int) -> None:
    world.transport.settings = replace(world.transport.settings, **limits)  # type: ignore[arg-type]


async def schedule(world: World, name: str = "alice", **fields: Any) -> SubmitMessageResponse:
    """Schedule a message to carol in an hour."""
    return await world.submit(name, **in_an_hour(world, name), **fields)


def in_an_hour(world: World, name: str) -> dict[str, Any]:
    """The fields of a message to carol that is sent in an hour."""
    moment = convert.timestamp(world.call(world.gateway()).now + HOUR)
    letter = LETTER.replace(b"NAME", name.encode())
    return {"content": letter, "recipients": ["carol@example.test"], "send_at": moment}


async def test_one_too_many_is_refused_and_names_the_limit(world: World) -> None:
    limit(world, max_scheduled=2)
    first = await schedule(world)
    await schedule(world)
    with pytest.raises(AccountLimitReached) as refused:
        await schedule(world)
    assert (refused.value.metadata["resource"], refused.value.metadata["limit"]) == ("scheduled", "2")
    assert refused.value.retry_seconds
    await schedule(world, "bob")  # each account has its own
    await world.submit("alice", LETTER.replace(b"NAME", b"alice"), recipients=["carol@example.test"])  # not scheduled
    cancel = CancelSubmissionRequest(submission_id=first.submission.submission_id)
    await world.run(cancel, world.session("alice"))
    await schedule(world)


async def test_mail_whose_time_has_come_counts_no_more(world: World) -> None:
    limit(world, max_scheduled=1)
    await schedule(world)
    await world.pass_time(2 * HOUR)
    await schedule(world)
    assert len(await world.letters("carol")) == 1


async def test_octets_are_bounded_too(world: World) -> None:
    limit(world, max_scheduled_octets=2 * len(LETTER))
    await schedule(world)
    with pytest.raises(AccountLimitReached) as refused:
        await schedule(world)
    assert refused.value.metadata["resource"] == "scheduled_octets"


async def test_a_repeated_request_is_answered_though_the_bound_is_reached(world: World) -> None:
    limit(world, max_scheduled=1)
    request_id = secrets.token_bytes(16)
    moment = convert.timestamp(world.call(world.gateway()).now + HOUR)
    letter = LETTER.replace(b"NAME", b"alice")
    fields: dict[str, Any] = {"recipients": ["carol@example.test"], "send_at": moment, "request_id": request_id}
    assert await world.submit("alice", letter, **fields) == await world.submit("alice", letter, **fields)


async def test_many_at_once_do_not_slip_in_together(world: World) -> None:
    limit(world, max_scheduled=3)
    outcomes = await asyncio.gather(
        *(world.submit_by_smtp("alice", **in_an_hour(world, "alice")) for _ in range(10)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, AccountLimitReached)]
    assert len(refused) == 7
    assert len(outcomes) - len(refused) == 3
    await world.pass_time(2 * HOUR)
    assert len(await world.letters("carol")) == 3


async def test_a_refused_message_takes_no_room_of_the_others_of_its_set(world: World) -> None:
    limit(world, max_scheduled=2)
    fields = in_an_hour(world, "alice")
    letter = fields.pop("content")
    upload_id = await world.upload("alice", letter)
    outcomes = await asyncio.gather(
        world.submit("alice", upload_id=upload_id, **fields),
        world.submit("alice", upload_id=upload_id, **fields),  # the upload is used up
        world.submit("alice", letter, **fields),
        return_exceptions=True,
    )
    assert Counter(map(type, outcomes)) == {SubmitMessageResponse: 2, UploadNotFound: 1}
