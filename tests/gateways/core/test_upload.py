"""Uploads restart after a break while their octets are buffered, and otherwise fail cleanly."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterable

import pytest

from restante import errors
from restante.v1 import content_pb2
from restante_gateways.core.retry import OutcomeUnknown, settle
from restante_gateways.core.upload import HELD_OCTETS, Upload


class Core:
    """A core that takes uploads; the first `broken` of them break after a number of octets."""

    def __init__(self, broken: int = 0, after: int = 0) -> None:
        self.broken, self.after = broken, after
        self.failure: errors.RestanteError = errors.Draining("The connection was lost.")
        self.whole: list[bytes] = []
        self.tokens: list[bytes] = []

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        assert kind == content_pb2.UPLOAD_KIND_MESSAGE
        self.tokens.append(session)
        octets = bytearray()
        async for chunk in chunks:
            octets += chunk
            if self.broken and len(octets) > self.after:
                self.broken -= 1
                raise self.failure
        if self.broken:
            self.broken -= 1
            raise self.failure
        self.whole.append(bytes(octets))
        return content_pb2.UploadContentResponse(upload_id=b"upload", size_octets=len(octets))


async def send(core: Core, content: bytes, pieces: int = 8, patience_seconds: float = 5.0) -> bytes:
    tokens = itertools.chain((b"first", b"second"), itertools.repeat(b"third"))
    sending = Upload(core, lambda: next(tokens), "192.0.2.1", patience_seconds)
    step = -(-len(content) // pieces)
    try:
        for start in range(0, len(content), step):
            await sending.feed(content[start : start + step])
        return await sending.finish()
    finally:
        await sending.abandon()


CONTENT = bytes(range(256)) * 1024  # 256 KiB


async def test_the_core_gets_the_octets_in_order() -> None:
    core = Core()
    assert await send(core, CONTENT) == b"upload"
    assert core.whole == [CONTENT]


@pytest.mark.parametrize("after", [0, 100_000, len(CONTENT) - 1, len(CONTENT)])
async def test_a_broken_upload_is_begun_anew_with_the_token_of_that_moment(after: int) -> None:
    core = Core(broken=2, after=after)
    assert await send(core, CONTENT) == b"upload"
    assert core.whole == [CONTENT]
    assert core.tokens == [b"first", b"second", b"third"]


async def test_a_refusal_is_raised_and_not_repeated() -> None:
    core = Core(broken=1, after=100_000)
    core.failure = errors.StoreFull()
    with pytest.raises(errors.StoreFull):
        await send(core, CONTENT)
    assert core.tokens == [b"first"]


@pytest.mark.parametrize("after", [HELD_OCTETS + (1 << 19), 4 << 20])
async def test_a_content_that_is_too_large_to_be_held_fails_when_its_upload_breaks(after: int) -> None:
    core = Core(broken=1, after=after)
    with pytest.raises(errors.Draining):
        await send(core, CONTENT * 8)
    assert core.whole == []
    assert await send(core, CONTENT * 8) == b"upload"


async def test_a_core_that_stays_away_fails_the_upload() -> None:
    core = Core(broken=1_000)
    with pytest.raises(errors.Draining):
        await send(core, CONTENT, patience_seconds=0.2)
    assert len(core.tokens) > 2


async def test_a_lost_answer_is_asked_for_again_until_it_comes() -> None:
    lost = [errors.Draining(), errors.DeadlineExceeded()]

    async def attempt() -> str:
        if lost:
            raise lost.pop()
        return "done"

    assert await settle(attempt) == "done"


async def test_a_refusal_is_an_answer() -> None:
    async def attempt() -> str:
        raise errors.StoreBusy

    with pytest.raises(errors.StoreBusy):
        await settle(attempt)


async def test_an_answer_that_never_comes_leaves_the_outcome_unknown() -> None:
    async def attempt() -> str:
        await asyncio.sleep(0)
        raise errors.Draining

    with pytest.raises(OutcomeUnknown):
        await settle(attempt, 0.2)
