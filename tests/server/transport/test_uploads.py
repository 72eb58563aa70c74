"""Unfinished uploads: limited for each account, removed in small steps, with their space freed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from restante.errors import AccountLimitReached, DeadlineExceeded
from restante.v1.content_pb2 import UploadChunkRequest, UploadContentRequest, UploadKind
from restante_process import config
from restante_server.api.engine.allowances import Resource
from restante_server.api.engine.caller import Caller
from restante_server.api.services import contents as contents_api
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.store import staging, uploads
from restante_server.store.staging import Form
from restante_server.store.uploads import HOUR
from restante_server.upkeep import sweeps
from tests.server.transport.world import World

PIECE = b"x" * 1_000
UPLOADS, OCTETS = 5, 8_000


@pytest.fixture
def bounded(world: World) -> World:
    """An account may have 5 uploads and 8,000 octets."""
    limits = config.Limits(account_uploads=UPLOADS, account_upload_octets=OCTETS)
    world.core.settings = replace(world.core.settings, limits=limits)
    world.core.allowances.limits[Resource.UPLOAD_OCTETS] = OCTETS
    return world


def first(octets: bytes = PIECE, **fields: Any) -> UploadChunkRequest:
    return UploadChunkRequest(
        kind=UploadKind.UPLOAD_KIND_ATTACHMENT, octets=octets, request_id=secrets.token_bytes(16), **fields
    )


async def by_stream(world: World, caller: Caller, *pieces: bytes) -> bytes:
    """Upload by ContentService.UploadContent."""

    async def requests() -> AsyncIterator[UploadContentRequest]:
        for piece in pieces:
            yield UploadContentRequest(kind=UploadKind.UPLOAD_KIND_ATTACHMENT, octets=piece)
            await asyncio.sleep(0)

    return (await contents_api.upload_content(world.call(caller), requests())).upload_id


async def pieces_left(world: World) -> int:
    counted = select(func.count()).select_from(schema.upload_piece)
    return await world.db.read(lambda tx: tx.execute(counted).scalar_one())


async def test_who_never_finishes_is_refused_at_the_bound_and_mail_and_others_go_on(bounded: World) -> None:
    greedy, bob = bounded.session("alice"), bounded.session("bob")
    begun = [(await bounded.run(first(), greedy)).upload_id for _ in range(UPLOADS)]
    with pytest.raises(AccountLimitReached) as refused:
        await bounded.run(first(), greedy)
    assert refused.value.metadata == {"resource": "uploads", "limit": str(UPLOADS)}
    assert refused.value.retry_seconds
    offset = len(PIECE)
    for upload_id in begun[:3]:
        await bounded.run(UploadChunkRequest(upload_id=upload_id, offset_octets=offset, octets=PIECE), greedy)
    further = UploadChunkRequest(upload_id=begun[3], offset_octets=offset, octets=PIECE)
    for _ in range(2):
        with pytest.raises(AccountLimitReached) as refused:
            await bounded.run(further, greedy)
        assert refused.value.metadata == {"resource": "upload_octets", "limit": str(OCTETS)}
    with pytest.raises(AccountLimitReached):
        await by_stream(bounded, greedy, PIECE)
    again = UploadChunkRequest(upload_id=begun[0], offset_octets=0, octets=PIECE)
    assert (await bounded.run(again, greedy)).received_octets == 2 * len(PIECE)  # a repeated piece takes no room

    assert await by_stream(bounded, bob, PIECE, PIECE)
    assert (await bounded.run(first(last=True), bob)).finished
    assert (await bounded.accept(["alice@example.test", "bob@example.test"])).accepted
    assert len(await bounded.letters("alice")) == 1


async def test_what_is_past_its_time_goes_in_small_steps_and_the_room_is_back(
    bounded: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PIECES_AT_ONCE", 2)
    greedy = bounded.session("alice")
    upload_id = (await bounded.run(first(), greedy)).upload_id
    for number in range(1, 7):
        piece = UploadChunkRequest(upload_id=upload_id, offset_octets=number * len(PIECE), octets=PIECE)
        await bounded.run(piece, greedy)
    unused = await by_stream(bounded, greedy, PIECE)  # finished, and never named
    assert await pieces_left(bounded) == 7
    now = time.time_ns() // 1_000 + HOUR + 1
    assert await bounded.db.write(Write(lambda tx: uploads.lapse(tx, upload_id, now)))
    assert await pieces_left(bounded) == 5  # one step, and there is more to do
    with pytest.raises(AccountLimitReached):  # uploads that still take space still count
        await bounded.run(first(), greedy)
    assert await sweeps.lapse_uploads(bounded.db, now) == 2
    assert await pieces_left(bounded) == 0
    left = select(func.count()).select_from(schema.upload).where(schema.upload.c.upload_id.in_([upload_id, unused]))
    assert await bounded.db.read(lambda tx: tx.execute(left).scalar_one()) == 0
    assert await bounded.core.collector.collect(now) == 1  # the content of the finished one
    assert (await bounded.run(first(PIECE * 8), greedy)).received_octets == OCTETS


async def test_streams_count_while_they_come_and_no_longer_when_they_end(bounded: World) -> None:
    greedy = bounded.session("alice")
    go_on = asyncio.Event()

    async def endless() -> AsyncIterator[UploadContentRequest]:
        yield UploadContentRequest(kind=UploadKind.UPLOAD_KIND_ATTACHMENT, octets=PIECE * 6)
        await go_on.wait()

    unfinished = asyncio.ensure_future(contents_api.upload_content(bounded.call(greedy), endless()))
    while not bounded.core.allowances.held(greedy.party, Resource.UPLOAD_OCTETS):
        await asyncio.sleep(0)
    with pytest.raises(AccountLimitReached):
        await by_stream(bounded, greedy, PIECE, PIECE, PIECE)
    assert await by_stream(bounded, bounded.session("bob"), PIECE, PIECE, PIECE)
    unfinished.cancel()
    await asyncio.wait([unfinished])
    assert await by_stream(bounded, greedy, PIECE, PIECE, PIECE)
    assert bounded.core.allowances.parties == 0


async def test_a_stream_that_takes_too_long_ends(bounded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_api, "UPLOAD_SECONDS", 0.05)

    async def stalled() -> AsyncIterator[UploadContentRequest]:
        yield UploadContentRequest(kind=UploadKind.UPLOAD_KIND_ATTACHMENT, octets=PIECE)
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded):
        await contents_api.upload_content(bounded.call(bounded.session("alice")), stalled())
    assert bounded.core.allowances.parties == 0


async def test_a_last_piece_sent_many_times_at_once_leaves_one_content_and_no_pieces(world: World) -> None:
    contents = world.core.contents
    contents.settings = replace(contents.settings, inline_octets=10)  # in files, which others would keep for an hour
    alice = world.session("alice")
    upload_id = (await world.run(first(), alice)).upload_id
    last = UploadChunkRequest(upload_id=upload_id, offset_octets=len(PIECE), octets=b"end", last=True)
    answers = await asyncio.gather(*(world.run(last, alice) for _ in range(5)))
    assert {(answer.finished, answer.size_octets) for answer in answers} == {(True, len(PIECE) + 3)}
    assert await pieces_left(world) == 0
    await world.core.collector.collect(time.time_ns() // 1_000)
    assert len([path for path in contents.directory.rglob("*") if path.is_file()]) == 1


async def test_pieces_of_a_finished_upload_go_though_its_core_ended_before(world: World) -> None:
    upload_id = secrets.token_bytes(16)
    now = time.time_ns() // 1_000
    alice = world.people["alice"].account_id
    limits = uploads.Limits(10, 1 << 20)
    staged = await world.core.contents.stage(PIECE, Form.ANY)

    def finished(tx: Any) -> None:
        uploads.begin(tx, upload_id, alice, UploadKind.UPLOAD_KIND_ATTACHMENT, now)
        uploads.add_piece(tx, uploads.get(tx, upload_id, alice, now), alice, 0, PIECE, 1 << 20, limits)
        uploads.finish(tx, upload_id, len(PIECE), staged, now)

    await world.db.write(Write(finished))
    await sweeps.lapse_uploads(world.db, now)
    assert await pieces_left(world) == 0
    assert (await world.db.read(uploads.get, upload_id, alice, now)).content_id is not None


@pytest.mark.parametrize("dialect", ["sqlite"])
async def test_unused_pages_of_the_database_count_as_room_and_are_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is nearly full of an account's uploads; once they are removed, mail is accepted again at once."""
    monkeypatch.setattr(staging, "ROOM_SECONDS", 0.0)
    disk = 8 << 20
    file = world.db.file
    assert file is not None

    class Usage:
        @property
        def free(self) -> int:
            return disk - file.stat().st_size  # type: ignore[union-attr]  # asserted above

    monkeypatch.setattr("restante_server.store.staging.shutil.disk_usage", lambda _path: Usage())
    contents = world.core.contents
    contents.settings = replace(contents.settings, reserve_octets=2 << 20)
    alice, offset = world.session("alice"), 0
    upload_id = (await world.run(first(PIECE * 500), alice)).upload_id
    while (await world.accept(["bob@example.test"])).accepted:
        offset += 500 * len(PIECE)
        piece = UploadChunkRequest(upload_id=upload_id, offset_octets=offset, octets=PIECE * 500)
        await world.run(piece, alice)
        await checkpointed(world)
    large = file.stat().st_size
    await sweeps.lapse_uploads(world.db, time.time_ns() // 1_000 + HOUR + 1)
    await checkpointed(world)
    assert file.stat().st_size >= large
    async with asyncio.timeout(10):  # the file has the same size with free pages, which the core counts once a second
        while not (await world.accept(["bob@example.test"])).accepted:
            await world.db.write(Write(lambda _tx: None))
            await asyncio.sleep(0.1)
    steps = 0
    while await world.db.give_back(1 << 20, 1 << 20):
        steps += 1
    assert steps >= 3
    await checkpointed(world)
    assert file.stat().st_size < large - (3 << 20)


async def checkpointed(world: World) -> None:
    """Checkpoint, so that all writes are in the database file."""

    def run() -> None:
        with world.db.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    await asyncio.to_thread(run)
