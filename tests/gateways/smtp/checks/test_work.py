"""Long computations of the checks leave the event loop, and many short ones leave room between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from restante_gateways.smtp.checks.work import INLINE_LINES, INLINE_OCTETS, SHORT_HEADER_OCTETS, TOGETHER, Work
from restante_mail.authentication.arc.seal import seal
from restante_mail.authentication.arc.validate import ArcValidator
from restante_mail.authentication.dkim.content import Content, HeaderFields
from restante_mail.authentication.dkim.sign import sign
from restante_mail.authentication.dkim.signing_keys import generate_key
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.results import Result
from tests.mail.authentication.dkim.answers import published

Value = TypeVar("Value")

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
KEY = generate_key("example.org", "ed", "ed25519-sha256")
MESSAGE = b"From: bob@example.org\r\nSubject: x\r\n\r\nhello\r\n"


def own_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


@dataclass
class Seen:
    """A Compute that notes whether each computation runs on a thread."""

    inner: Work
    threads: list[bool]

    async def __call__(self, work: Callable[[], Value]) -> Value:
        def noted() -> Value:
            self.threads.append(own_thread())
            return work()

        return await self.inner.compute(noted)


async def header_on_a_thread(*pieces: bytes) -> bool:
    content, work, seen = Content(), Work(), list[bool]()

    def came(header: HeaderFields) -> None:
        seen.append(own_thread())

    content.on_header(came)
    for piece in pieces:
        await work.fed(content, piece)
    await work.compute(content.finish)
    assert content.header is not None or content.header_too_long
    return any(seen)


@pytest.mark.parametrize(
    ("header", "threads"),
    [
        (b"x: y\r\n" * 10, False),
        (b"x: y\r\n" * (INLINE_LINES + 1), True),
        (b"x: " + b"y" * INLINE_OCTETS + b"\r\n", True),
    ],
    ids=["usual", "lines", "octets"],
)
async def test_a_long_header_is_read_on_a_thread(header: bytes, threads: bool) -> None:
    half = len(header) // 2
    assert await header_on_a_thread(header + b"\r\nbody\r\n") is threads
    assert await header_on_a_thread(header[:half], header[half:] + b"\r\n") is threads


async def test_a_header_without_an_end_is_read_on_a_thread_if_it_is_long() -> None:
    assert await header_on_a_thread(b"x: " + b"y" * SHORT_HEADER_OCTETS + b"\r\n")
    assert not await header_on_a_thread(b"x: y\r\n")


async def test_large_pieces_of_a_body_are_hashed_on_a_thread() -> None:
    content, work, threads = Content(), Work(), list[bool]()
    await work.fed(content, b"x: y\r\n\r\n")
    content.feed = lambda octets: threads.append(own_thread())  # type: ignore[method-assign]
    for octets in (b"z" * INLINE_OCTETS, b"z" * (INLINE_OCTETS + 1), b"\n" * 10_000):
        await work.fed(content, octets)
    assert threads == [False, True, False]


async def test_signatures_over_a_long_header_are_verified_on_threads() -> None:
    for long in (False, True):
        head = b"X-Long: " + b"y" * (SHORT_HEADER_OCTETS if long else 10) + b"\r\n" + MESSAGE
        content, work = Content(), Work()
        verifier, threads = Verifier(content), list[bool]()
        await work.fed(content, sign(head, [KEY], NOW) + head)
        await work.compute(content.finish)

        assert [each.result for each in await verifier.results(published(KEY), NOW, Seen(work, threads))] == [
            Result.PASS
        ]
        assert threads == [long]


async def test_the_loop_runs_between_the_signatures_of_a_long_chain() -> None:
    message, sets = MESSAGE, 10
    for number in range(sets):
        message = seal(message, KEY, NOW, Result.PASS if number else Result.NONE, "x; dkim=pass") + message
    content, work, turns = Content(), Work(), 0
    validator = ArcValidator(content)
    content.feed(message)
    content.finish()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    result = await validator.result(published(KEY), NOW, work.compute)
    task.cancel()
    assert result.result is Result.PASS
    assert turns >= 2 * sets // TOGETHER  # each set has a message signature and a seal
