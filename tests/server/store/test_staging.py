"""Contents in upload: an abandoned one leaves nothing behind, at any moment."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select

from restante.errors import StoreFull
from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.db.errors import CommitFailed
from restante_server.db.operation import Write
from restante_server.store import contents as store_contents
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


async def test_a_large_content_has_a_row_only_when_a_transaction_names_it(contents: Contents) -> None:
    staged = await contents.stage(b"Subject: a\r\n\r\n" + PIECE, Form.CANONICAL)
    count = select(func.count()).select_from(schema.content)
    assert await contents.db.read(lambda tx: tx.scalar(count)) == 0
    assert staged.octets == 0  # they are not in the transaction
    content_id = await contents.db.write(Write(lambda tx: staged.insert(tx, 1)))
    (stored,) = (await contents.db.read(store_contents.load, [content_id])).values()
    assert [str(path.relative_to(contents.directory)) for path in files(contents)] == [stored.file_name]


@pytest.mark.parametrize(
    ("after", "left"),
    [(None, 0), (StoreFull(), 0), (CommitFailed(), 1), (asyncio.CancelledError(), 1), (RuntimeError(), 1)],
)
async def test_the_file_of_a_content_that_nothing_named_goes_if_that_is_certain(
    contents: Contents, after: BaseException | None, left: int
) -> None:
    staged = await contents.stage(PIECE, Form.ANY)
    contents.forget(staged, None, after=after)
    assert len(files(contents)) == left
