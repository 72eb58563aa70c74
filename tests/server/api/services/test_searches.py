"""Limits on concurrent searches in contents; a search ends when its caller is gone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from restante.errors import DeadlineExceeded, TooManyOperations
from restante_mail.mime import parts
from restante_mail.mime.facts import scan
from restante_server.api.engine import search_threads as module
from restante_server.api.engine.search_threads import MOST_OF_ACCOUNT, RUNNING, THREADS, Searches, Stopped, Turn
from restante_server.store import examine, staging
from restante_server.store.examine import Examined
from restante_server.store.restriction import HasText, TextField
from restante_server.store.search import Look, Step
from restante_server.store.staging import Contents, ContentSettings, Form
from tests.server.store.conftest import box
from tests.server.store.material import Box

__all__ = ["box"]  # a fixture
FOREVER = float("inf")


@pytest.fixture
async def searches() -> AsyncIterator[Searches]:
    made = Searches()
    yield made
    made.close()


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def busy(turn: Turn) -> None:
    """Work until its watch ends it."""
    while True:
        turn.check()
        time.sleep(0.001)


# --- turns ------------------------------------------------------------------------------------------------------------


async def test_accounts_take_turns_however_many_searches_one_has(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    held = asyncio.Event()

    async def hold(account_id: int) -> None:
        async with searches.turn(account_id):
            await held.wait()

    async def search(account_id: int) -> None:
        for _ in range(2):
            async with searches.turn(account_id):
                order.append(account_id)
                await asyncio.sleep(0)

    holders = [asyncio.create_task(hold(100 + number)) for number in range(THREADS)]
    await asyncio.sleep(0)
    working = [asyncio.create_task(search(account_id)) for account_id in (1, 1, 1, 1, 2, 3)]
    await asyncio.sleep(0)
    held.set()
    await asyncio.gather(*holders, *working)
    assert sorted(order[:3]) == [1, 2, 3]
    assert order[:8].count(2) == order[:8].count(3) == 2  # of twelve, eight of them the first account's
    assert searches.running == 0


async def test_an_account_has_one_turn_at_a_time_and_all_together_as_many_as_there_are_threads(
    searches: Searches,
) -> None:
    now: list[int] = []
    most = 0

    async def search(account_id: int) -> None:
        nonlocal most
        async with searches.turn(account_id):
            assert account_id not in now
            now.append(account_id)
            most = max(most, len(now))
            await asyncio.sleep(0.001)
            now.remove(account_id)

    await asyncio.gather(*(search(number % 20) for number in range(100)))
    assert most == THREADS and searches.running == 0


async def test_a_turn_that_is_given_up_goes_to_the_next(searches: Searches) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with searches.turn(1):
            entered.set()
            await asyncio.Event().wait()

    async def wait() -> bool:
        async with searches.turn(1):
            return True

    holding = asyncio.create_task(hold())
    await entered.wait()
    given_up, waiting = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    given_up.cancel()  # while it waits
    holding.cancel()
    assert await waiting
    holding = asyncio.create_task(hold())
    late, last = asyncio.create_task(wait()), asyncio.create_task(wait())
    await until(lambda: searches.running == 1)
    await asyncio.sleep(0)
    holding.cancel()
    await asyncio.sleep(0)
    late.cancel()  # just after it got the turn
    assert await last
    assert searches.running == 0


async def test_a_turn_comes_free_in_the_moment_when_the_next_one_gives_up(searches: Searches) -> None:
    async def wait(account_id: int) -> int:
        async with searches.turn(account_id):
            return account_id

    async with searches.turn(1):
        given_up, behind = (asyncio.create_task(wait(1)) for _ in range(2))
        await asyncio.sleep(0)
        given_up.cancel()  # its task has not noticed when the turn ends
    assert await behind == 1
    async with searches.turn(1):
        alone = asyncio.create_task(wait(1))
        await asyncio.sleep(0)
        alone.cancel()
    assert sorted(await asyncio.gather(wait(1), wait(2))) == [1, 2]
    assert given_up.cancelled() and alone.cancelled() and searches.running == 0


async def test_the_searches_of_an_account_are_bounded(searches: Searches) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(MOST_OF_ACCOUNT):
            held.enter_context(searches.under_way(1))
        with pytest.raises(TooManyOperations) as caught:
            held.enter_context(searches.under_way(1))
        assert caught.value.metadata["limit"] == str(MOST_OF_ACCOUNT) and caught.value.retry_seconds
        held.enter_context(searches.under_way(2))
    with searches.under_way(1):
        pass


async def test_a_look_that_takes_long_lets_others_go_first(searches: Searches) -> None:
    async def search(account_id: int) -> None:
        async with searches.turn(account_id):
            await searches.look(busy, FOREVER)

    working = [asyncio.create_task(search(number)) for number in range(2 * RUNNING)]
    await until(lambda: searches.running == 2 * RUNNING)
    async with asyncio.timeout(5):
        async with searches.turn(100):
            assert await searches.look(lambda _: "done", FOREVER) == "done"
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert await searches.look(lambda _: "done", FOREVER) == "done"  # and nothing is left behind by those that waited


async def test_only_so_many_looks_run_at_one_moment(searches: Searches) -> None:
    now, most, guard = 0, 0, threading.Lock()

    def work(turn: Turn) -> None:
        nonlocal now, most
        for _ in range(50):
            with guard:
                now += 1
                most = max(most, now)
            time.sleep(0.002)
            with guard:
                now -= 1
            turn.check()

    async def search(account_id: int) -> None:
        async with searches.turn(account_id):
            await searches.look(work, FOREVER)

    await asyncio.gather(*(search(number) for number in range(6)))
    assert most == RUNNING


# --- letting go -------------------------------------------------------------------------------------------------------


async def test_a_look_that_is_given_up_lets_go_of_its_thread(searches: Searches) -> None:
    async def search() -> None:
        async with searches.turn(1):
            await searches.look(busy, FOREVER)

    working = asyncio.create_task(search())
    await until(lambda: searches.running == 1)
    await asyncio.sleep(0.02)
    began = time.monotonic()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert time.monotonic() - began < 0.5 and searches.running == 0
    assert await searches.look(lambda _: threading.current_thread().name, FOREVER)


@pytest.mark.parametrize("who", ["search", "staging"])
async def test_a_thread_is_waited_for_however_often_its_caller_is_cancelled(
    box: Box, searches: Searches, tmp_path: Path, who: str
) -> None:
    contents = Contents(box.database, ContentSettings(tmp_path, reserve_octets=0))
    began, let_go = threading.Event(), threading.Event()

    def work(*_: object) -> None:
        began.set()
        let_go.wait(10)

    waiting = searches.look(work, FOREVER) if who == "search" else contents.on_thread(work)
    caller = asyncio.create_task(waiting)
    await until(began.is_set)
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0.01)
    assert not caller.done()  # the thread still has the file open
    let_go.set()
    await asyncio.wait([caller], timeout=5)
    assert caller.cancelled()
    contents.close()


async def test_a_look_ends_at_its_deadline_though_the_loop_is_late(searches: Searches) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await searches.look(busy, began + 0.05)
    assert time.monotonic() - began < 1.0


def html(octets: int) -> bytes:
    """A message of one large HTML part, with a word at its beginning and one at its end."""
    line = b"<p>" + b"<" * 70 + b"</p>\r\n"
    head = b"Subject: large\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>beginning</p>\r\n"
    return head + line * ((octets - len(head)) // len(line)) + b"<p>ending</p>\r\n"


def holds(content: bytes, needle: str, check: Callable[[], None] = lambda: None) -> bool:
    structure = parts.encode(scan(content).tree)
    return Examined(b"", content, structure, check).holds(HasText(TextField.BODY, needle))


def test_a_look_into_one_large_message_asks_again_and_again_whether_to_go_on() -> None:
    content, asked = html(1 << 20), 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise Stopped

    with pytest.raises(Stopped):
        holds(content, "absent", check)
    asked = 4
    holds(content, "absent", check)
    assert asked - 4 >= 16  # at least once for 64 KiB


def test_a_look_reads_so_many_octets_of_a_message_and_finds_nothing_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examine, "LOOK_OCTETS", 100_000)
    assert holds(html(90_000), "ending")
    large = html(110_000)
    assert holds(large, "beginning") and not holds(large, "ending")
    part = b"--b\r\nContent-Type: text/plain\r\n\r\n%b\r\n"
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(
        part % (b"word%d " % number + b"x " * 15_000) for number in range(6)
    )
    found = [holds(many + b"--b--\r\n", f"word{number}") for number in range(6)]
    assert found == [True, True, True, True, False, False]  # all parts of a message together
    attached = b"--b\r\nContent-Type: application/pdf\r\n\r\n" + b"x " * 100_000 + b"\r\n"
    first = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + attached + part % b"behind" + b"--b--\r\n"
    assert holds(first, "behind")  # parts that are not text are not read, and do not count


def test_the_octets_looked_at_are_those_that_the_contract_tells() -> None:
    told = (Path(__file__).parents[4] / "protos/restante/v1/search.proto").read_text()
    assert f"({examine.LOOK_OCTETS} octets)" in told.replace("\n// ", " ")
    told = (Path(__file__).parents[4] / "protos/restante/v1/message.proto").read_text()
    assert f"has more than {MOST_OF_ACCOUNT} searches" in told


async def test_a_turn_ends_after_a_while_and_the_search_goes_on_where_it_was(
    searches: Searches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.02)
    looked: list[int] = []

    def truth(row: object, _look: object) -> bool:
        time.sleep(0.01)
        looked.append(row)  # type: ignore[arg-type]
        return int(row) % 2 == 0  # type: ignore[call-overload, no-any-return]

    def step(first: int) -> Step:
        numbers = range(first, 20)
        looks = {at: Look(number, truth, b"", b"", b"") for at, number in enumerate(numbers)}  # type: ignore[arg-type]
        return Step(1, [(number, 0, 0) for number in numbers], looks)

    found: list[int] = []
    turns, after = 0, -1
    while True:
        made = step(after + 1)
        await searches.look(made.confirm, FOREVER)
        found += [hit[0] for hit in made.hits]
        turns += 1
        if made.after is None:
            break
        (after,) = made.after  # type: ignore[assignment]
    assert found == list(range(0, 20, 2)) and looked == list(range(20)) and turns > 3


# --- no other caller waits --------------------------------------------------------------------------------------------


async def test_large_mail_is_staged_while_every_search_thread_is_busy(
    box: Box, searches: Searches, tmp_path: Path
) -> None:
    contents = Contents(box.database, ContentSettings(tmp_path, reserve_octets=0))

    async def search(account_id: int) -> None:
        async with searches.turn(account_id):
            await searches.look(busy, FOREVER)

    working = [asyncio.create_task(search(number)) for number in range(50)]
    await until(lambda: searches.running == THREADS)
    async with asyncio.timeout(10):
        staged = await contents.stage(html(2 * staging.FLUSH_OCTETS), Form.CANONICAL)
    assert staged.facts is not None and staged.new is not None and staged.new.file_name
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    contents.close()
    assert searches.running == 0
