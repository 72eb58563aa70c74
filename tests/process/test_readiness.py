"""Readiness follows its conditions, with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from prometheus_client import CollectorRegistry, Counter

from restante_process.metrics import new_registry
from restante_process.readiness import Readiness, pages


async def test_a_process_is_ready_while_nothing_stands_against_it() -> None:
    readiness = Readiness(core="no answer yet", gateway="not started yet")
    shown = pages(CollectorRegistry(), readiness)
    page = await shown["/readyz"]()
    assert page.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert page.body == b"core: no answer yet\ngateway: not started yet\n"
    readiness.set("core", "")
    assert not readiness.ready
    readiness.set("gateway", "")
    assert readiness.problems == []
    assert (await shown["/readyz"]()).status == HTTPStatus.OK
    readiness.set("gateway", "draining")
    assert (await shown["/readyz"]()).body == b"gateway: draining\n"
    assert (await shown["/healthz"]()).status == HTTPStatus.OK  # the event loop runs


async def test_a_condition_is_looked_at_again_and_again_even_when_the_look_fails() -> None:
    readiness = Readiness(database="no answer yet")
    answers: Iterator[str | KeyError] = iter(["", "away", KeyError("x"), ""])
    seen: list[list[str]] = []

    async def check() -> str:
        seen.append(readiness.problems)
        answer = next(answers, "")
        if isinstance(answer, KeyError):
            raise answer
        return answer

    task = asyncio.create_task(readiness.keep("database", check, every_seconds=0.001))
    while len(seen) < 5:
        await asyncio.sleep(0.001)
    task.cancel()
    assert seen[:5] == [
        ["database: no answer yet"], [], ["database: away"], ["database: the check failed: KeyError"], [],
    ]  # fmt: skip


async def test_a_registry_has_the_build_and_the_process_and_no_created_series() -> None:
    registry = new_registry("imap")
    Counter("restante_things", "Things.", registry=registry).inc()
    text = (await pages(registry, Readiness())["/metrics"]()).body.decode()
    assert 'restante_build_info{process="imap",python="3.' in text
    assert "\nprocess_cpu_seconds_total " in text
    assert "\nrestante_things_total 1.0\n" in text
    assert "_created" not in text


@pytest.mark.parametrize("problem", ["away", ""])
def test_setting_the_same_again_changes_nothing(problem: str) -> None:
    readiness = Readiness()
    readiness.set("core", problem)
    readiness.set("core", problem)
    assert readiness.ready is not bool(problem)
