"""Decoded sections of the store: any range of them, in steps, in bounded memory."""

from __future__ import annotations

import base64
import quopri
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from restante.errors import MessageNotFound, PartNotFound
from restante_mail.mime import parts
from restante_mail.mime.decoders import Decoding
from restante_mail.mime.facts import scan
from restante_server.directory.rights import Claim, Place
from restante_server.store import contents, decoded, messages
from restante_server.store.contents import NewContent, Stored, Wanted
from restante_server.store.decoded import DecodedSection, Range
from restante_server.store.listing import listing_of
from restante_server.store.messages import NewMessage
from tests.server.store.material import NOW, OWNER, Box, add_to

PATH = (1,)


def content(body: bytes, encoding: str, charset: str = "utf-8") -> bytes:
    header = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return header.encode() + body


async def place(box: Box, octets: bytes, file: Path | None = None) -> int:
    """Put a message into the Inbox, with its content in the database or in a file; returns its id."""
    facts = scan(octets)
    if file is not None:
        file.write_bytes(octets)
    in_database = octets if file is None else None
    new = NewContent(len(octets), bytes(32), parts.encode(facts.tree), in_database, file.name if file else None)

    def run(tx: Connection, place: Place) -> int:
        (content_id,) = contents.insert_many(tx, [new], NOW)
        made = NewMessage(content_id, len(octets), listing_of(facts), received_at=NOW)
        return add_to(tx, place, box.inbox, [made])[0].message_id

    return await box.write(run)


async def read(box: Box, directory: Path, message_id: int, wanted: Wanted) -> bytes:
    """The range in steps, each of which runs twice, as after a lost connection."""
    reading, found = DecodedSection(directory, Claim(OWNER, box.id), message_id, wanted), bytearray()
    while not reading.ended:
        position = reading.position
        octets = await box.database.read(reading.step, position)
        assert await box.database.read(reading.step, position) == octets
        found += octets
    return bytes(found)


TEXT = "Grüße, 100 % = 5 €\r\n" * 3_000
FORMS = [
    pytest.param("base64", base64.encodebytes(TEXT.encode("cp1252")).replace(b"\n", b"\r\n"), id="base64"),
    pytest.param("quoted-printable", quopri.encodestring(TEXT.encode("cp1252")), id="quoted-printable"),
    pytest.param("8bit", TEXT.encode("cp1252"), id="8bit"),
]


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("encoding", "body"), FORMS)
async def test_any_range_is_the_same_slice_of_the_whole(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, body: bytes, in_file: bool
) -> None:
    monkeypatch.setattr(decoded, "STEP_OCTETS", 10_007)
    monkeypatch.setattr(decoded, "PIECE_OCTETS", 997)
    message_id = await place(box, content(body, encoding, "windows-1252"), tmp_path / "content" if in_file else None)
    drawn = random.Random(7)
    for form, whole in ((Decoding.TRANSFER, TEXT.encode("cp1252")), (Decoding.TEXT, TEXT.encode())):
        ranges = [(0, None), (len(whole), None), (len(whole) + 5, 3), (0, 0)]
        ranges += [(drawn.randrange(len(whole)), drawn.choice([None, drawn.randrange(5_000)])) for _ in range(6)]
        for offset, length in ranges:
            wanted = Wanted(PATH, offset=offset, length=length, decoding=form)
            expected = whole[offset : None if length is None else offset + length]
            assert await read(box, tmp_path, message_id, wanted) == expected

            def beginning(tx: Connection, wanted: Wanted = wanted, budget: int = 1 << 20) -> decoded.Beginning:
                stored = _stored(tx, box, message_id)
                return decoded.beginning(tx, tmp_path, stored, wanted, 1_000, budget)

            cut, octets = await box.database.read(beginning)
            assert cut is not None
            assert (cut.octets, cut.total, octets <= len(body)) == (expected[:1_000], len(expected), True)
            cut, octets = await box.database.read(beginning, wanted, 2_000)
            assert octets <= 2_000
            assert cut is None or (cut.octets, cut.total) == (expected[:1_000], len(expected))


def _stored(tx: Connection, box: Box, message_id: int) -> Stored:
    content_id, _ = messages.content_of(tx, box.place(tx), message_id)
    return contents.load(tx, [content_id])[content_id]


@given(st.binary(max_size=300), st.integers(0, 320), st.none() | st.integers(0, 320), st.lists(st.integers(0, 40)))
def test_a_range_does_not_depend_on_the_pieces(
    octets: bytes, offset: int, length: int | None, sizes: list[int]
) -> None:
    window, found, at = Range(offset, length), b"", 0
    for size in [*sizes, len(octets)]:
        found += window.take(octets[at : at + size])
        at += size
    assert found == octets[offset : None if length is None else offset + length]
    assert not window.complete or length is not None


async def test_a_message_without_the_part_and_no_message_are_refused(box: Box, tmp_path: Path) -> None:
    message_id = await place(box, content(b"YQ==", "base64"))
    with pytest.raises(PartNotFound):
        await read(box, tmp_path, message_id, Wanted((2,), decoding=Decoding.TRANSFER))
    with pytest.raises(MessageNotFound):
        await read(box, tmp_path, message_id + 1, Wanted(PATH, decoding=Decoding.TRANSFER))


async def test_a_huge_part_is_decoded_in_little_memory(box: Box, tmp_path: Path) -> None:
    line = base64.b64encode(bytes(range(57))) + b"\r\n"
    lines = (30 << 20) // len(line)
    message_id = await place(box, content(line * lines, "base64"), tmp_path / "huge")
    wanted = Wanted(PATH, offset=1_000_000, decoding=Decoding.TRANSFER)
    reading, total = DecodedSection(tmp_path, Claim(OWNER, box.id), message_id, wanted), 0
    tracemalloc.start()
    try:
        while not reading.ended:
            total += len(await box.database.read(reading.step, reading.position))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 57 * lines - 1_000_000
    assert peak < 4 << 20
