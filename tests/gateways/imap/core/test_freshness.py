"""One request for change numbers for all sessions that need them in the same turn of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from restante import errors
from restante.v1.folder_pb2 import GetChangeNumbersRequest, GetChangeNumbersResponse, RefusedFolder
from restante_gateways.imap.core.freshness import Freshness, Reached
from restante_gateways.imap.values import Place


class Link:
    """A core whose answers a test releases: the number of a folder is its id times ten."""

    def __init__(self) -> None:
        self.asked: list[GetChangeNumbersRequest] = []
        self.answer = asyncio.Event()
        self.error: errors.RestanteError | None = None

    async def execute(self, _: Any, request: GetChangeNumbersRequest, **__: Any) -> GetChangeNumbersResponse:
        self.asked.append(request)
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        answer = GetChangeNumbersResponse(epoch=1)
        for index, folder in enumerate(request.folders):
            known = folder.session_token != b"bad"
            answer.change_numbers.append(folder.folder_id * 10 if known else 0)
            if not known:
                refused = RefusedFolder(index=index, status=errors.to_status(errors.SessionExpired()))
                answer.refused.append(refused)
        return answer


async def test_those_who_ask_in_one_turn_share_one_question_and_later_ones_never_join() -> None:
    link = Link()
    freshness = Freshness(link)  # type: ignore[arg-type]
    asking = [asyncio.ensure_future(freshness.ask(b"t", Place(1, folder_id))) for folder_id in range(1, 6)]
    while not link.asked:
        await asyncio.sleep(0)
    late = asyncio.ensure_future(freshness.ask(b"t", Place(1, 6)))
    while len(link.asked) < 2:
        await asyncio.sleep(0)
    assert [len(request.folders) for request in link.asked] == [5, 1]
    link.answer.set()
    assert await asyncio.gather(*asking, late) == [Reached(folder_id * 10, 1) for folder_id in range(1, 7)]


async def test_one_sessions_refusal_is_its_own_and_one_that_leaves_hinders_nobody() -> None:
    link = Link()
    freshness = Freshness(link)  # type: ignore[arg-type]
    bad = asyncio.ensure_future(freshness.ask(b"bad", Place(1, 1)))
    leaving = asyncio.ensure_future(freshness.ask(b"t", Place(1, 2)))
    good = asyncio.ensure_future(freshness.ask(b"t", Place(1, 3)))
    while not link.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    link.answer.set()
    assert await good == Reached(30, 1)
    with pytest.raises(errors.SessionExpired):
        await bad


async def test_more_than_one_question_holds_are_asked_in_several() -> None:
    link = Link()
    link.answer.set()
    freshness = Freshness(link)  # type: ignore[arg-type]
    answers = await asyncio.gather(*(freshness.ask(b"t", Place(1, folder_id)) for folder_id in range(1, 301)))
    assert [reached.change_number for reached in answers] == [folder_id * 10 for folder_id in range(1, 301)]
    assert [len(request.folders) for request in link.asked] == [256, 44]


async def test_a_fault_of_ours_leaves_nobody_waiting() -> None:
    class Broken(Link):
        async def execute(self, *_: Any, **__: Any) -> GetChangeNumbersResponse:
            return GetChangeNumbersResponse(epoch=1)  # too few numbers

    freshness = Freshness(Broken())  # type: ignore[arg-type]
    with pytest.raises(errors.Internal):
        await asyncio.wait_for(freshness.ask(b"t", Place(1, 1)), 5)


async def test_a_core_that_is_away_is_told_to_all() -> None:
    link = Link()
    link.error = errors.StoreBusy()
    link.answer.set()
    freshness = Freshness(link)  # type: ignore[arg-type]
    answers = await asyncio.gather(*(freshness.ask(b"t", Place(1, 1)) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(answer, errors.StoreBusy) for answer in answers)
