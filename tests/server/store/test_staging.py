"""Contents in upload: an abandoned one leaves nothing behind, at any moment."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from restante_server.db.engine import Database
from restante_server.store import staging
from restante_server.store.staging import Contents, ContentSettings, Form

PIECE = b"x" * staging.FLUSH_OCTETS


@pytest.fixture
def contents(database: Database, tmp_path: Path) -> Contents:
    directory = tmp_path / "contents"
    directory.mkdir()
    return Contents(database, ContentSettings(directory, reserve_octets=0))


def files(contents: Contents) -> list[Path]:
    return [path for path in contents.directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("step", ["write", "fsync"])
async def test_a_writer_given_up_while_its_thread_works_closes_the_file_after_it(
    contents: Contents, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """If the file were closed during the thread's write, its descriptor could belong to another file by then."""
    entered, goes_on = threading.Event(), threading.Event()
    known: list[int] = []
    plain = getattr(os, step)

    def slow(descriptor: int, *rest: object) -> object:
        known.append(descriptor)
        entered.set()
        assert goes_on.wait(10)
        os.fstat(descriptor)  # raises when it is closed
        return plain(descriptor, *rest)

    monkeypatch.setattr(os, step, slow)
    writer = contents.writer(Form.ANY)
    failed: list[BaseException] = []

    async def bring() -> None:
        try:
            await writer.feed(PIECE)
            await writer.finish()
        except BaseException as error:
            failed.append(error)
            writer.abandon()
            raise

    bringing = asyncio.create_task(bring())
    await asyncio.to_thread(entered.wait, 10)
    bringing.cancel()
    await asyncio.sleep(0.05)
    assert not failed, "it was given up under its thread"
    os.fstat(known[0])
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await bringing
    assert files(contents) == []


async def test_what_is_given_up_after_its_file_was_closed_leaves_no_file(
    contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> object:
        raise MemoryError

    monkeypatch.setattr(staging, "_scan_file", broken)
    writer = contents.writer(Form.CANONICAL)
    await writer.feed(b"Subject: a\r\n\r\n" + PIECE)
    with pytest.raises(MemoryError):
        await writer.finish()
    writer.abandon()
    assert files(contents) == []
