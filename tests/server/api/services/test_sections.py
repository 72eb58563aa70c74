"""Part trees and decoded sections through the API: batches, streams and single contents."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Sequence
from typing import Any

import pytest

from restante.errors import InvalidArgument, MessageNotFound, PartNotFound, ResultTooLarge
from restante.v1 import content_pb2 as c1
from restante.v1 import message_pb2 as v1
from restante.v1 import methods
from restante.v1.types_pb2 import MessageIdSet
from restante_server.api.services import message_rows
from restante_server.store import decoded
from tests.server.api.people import Bench
from tests.server.api.services.test_mail import Mail, bench, bob, messages  # noqa: F401 - fixtures

TEXT = "Grüße aus dem Norden, 100 % = alles\r\n"
BINARY = bytes(range(256)) * 5_000  # 1.2 MiB: more than is decoded at once
SMALL = b"\x00\x01\xffsmall"
TRANSFER, AS_TEXT = v1.SECTION_DECODING_TRANSFER, v1.SECTION_DECODING_TEXT


def letter(binary: bytes = BINARY, lines: int = 1) -> bytes:
    """Text in windows-1252 and quoted-printable, two files in base64, and an attached message."""
    text = quopri.encodestring((TEXT * lines).encode("cp1252")).replace(b"\r\n", b"\n")
    return b"".join(
        [
            b"Subject: parts\nContent-Type: multipart/mixed; boundary=b\n\n--b\n",
            b"Content-Type: text/plain; charset=windows-1252\nContent-Transfer-Encoding: quoted-printable\n\n",
            text,
            b"\n--b\nContent-Type: application/octet-stream; name=large.bin\nContent-Transfer-Encoding: base64\n\n",
            base64.encodebytes(binary),
            b"\n--b\nContent-Type: application/octet-stream; name=small.bin\nContent-Transfer-Encoding: base64\n\n",
            base64.encodebytes(SMALL),
            b"\n--b\nContent-Type: message/rfc822\n\n",
            b"Subject: inner\nList-Id: The list <list.example.org>\n\n8bit text\n",
            b"--b--\n",
        ]
    )


def part(*number: int, decoding: v1.SectionDecoding.ValueType = TRANSFER, **fields: Any) -> v1.Section:
    return v1.Section(part=number, decoding=decoding, **fields)


async def append(mail: Mail, content: bytes) -> int:
    """Add a message to the Inbox, and return its id."""
    upload_id = b""
    for at in range(0, len(content), 500_000):
        piece, last = content[at : at + 500_000], at + 500_000 >= len(content)
        fields = {"kind": c1.UPLOAD_KIND_MESSAGE, "offset_octets": at, "octets": piece, "last": last}
        upload_id = (await mail.call(methods.UPLOAD_CHUNK, upload_id=upload_id, **fields)).upload_id
    inbox = await mail.folder("Inbox")
    added = await mail.call(methods.APPEND_MESSAGE, folder_id=inbox.folder_id, upload_id=upload_id)
    return int(added.message_id)


def by_id(*message_ids: int) -> v1.MessageSet:
    return v1.MessageSet(ids=MessageIdSet(message_ids=message_ids))


async def content(mail: Mail, message_id: int, section: v1.Section) -> bytes:
    """The octets that ReadContent streams, whose number it has announced."""
    request = c1.ReadContentRequest(message_id=message_id, section=section)
    chunks = await mail.stream("ContentService", "ReadContent", request)
    assert all(len(chunk.octets) <= 256 << 10 for chunk in chunks)
    octets = b"".join(chunk.octets for chunk in chunks)
    assert chunks[0].total_octets == len(octets)
    return octets


async def streamed(mail: Mail, message_ids: Sequence[int], sections: Sequence[v1.Section]) -> list[list[bytes | None]]:
    """The cells of StreamMessages by section and message; None for a part that does not exist."""
    request = v1.StreamMessagesRequest(messages=by_id(*message_ids), sections=sections)
    cells: list[list[tuple[bytearray, int]]] = [[] for _ in sections]
    for response in await mail.stream("MessageService", "StreamMessages", request):
        assert response.ByteSize() <= 300 << 10
        for column, read in zip(cells, response.rows.sections, strict=False):
            column += zip(map(bytearray, read.octets), read.total_octets, strict=True)
        if response.HasField("rest"):
            cell = cells[response.rest.section_index][-1][0]
            assert response.rest.offset_octets == len(cell)
            cell += response.rest.octets
    assert all(len(octets) == max(total, 0) for column in cells for octets, total in column)
    return [[None if total < 0 else bytes(octets) for octets, total in column] for column in cells]


async def test_a_small_message_is_decoded_in_one_answer(bob: Mail) -> None:  # noqa: F811
    message_id = await append(bob, letter(b"file"))
    sections = [
        part(1, decoding=AS_TEXT),
        part(1),
        part(2),
        part(2, decoding=v1.SECTION_DECODING_UNSPECIFIED),
        part(4),
        part(4, 1, decoding=AS_TEXT),
        part(9),
        part(1, decoding=AS_TEXT, offset_octets=2, length_octets=4),
        part(2, offset_octets=3),
        part(2, offset_octets=99),
    ]
    asked = {"messages": by_id(message_id), "columns": [v1.MESSAGE_COLUMN_PARTS], "sections": sections}
    got = (await bob.call(methods.BATCH_GET_MESSAGES, **asked)).rows
    read = [(cell.octets[0], cell.total_octets[0]) for cell in got.sections]
    inner = b"Subject: inner\r\nList-Id: The list <list.example.org>\r\n\r\n8bit text"
    utf8 = TEXT.encode()
    assert read == [
        (utf8, len(utf8)),
        (TEXT.encode("cp1252"), len(TEXT)),
        (b"file", 4),
        (b"ZmlsZQ==\r\n", 10),
        (inner, len(inner)),
        (b"8bit text", 9),
        (b"", -1),
        (utf8[2:6], 4),
        (b"e", 1),
        (b"", 0),
    ]
    (tree,) = got.parts
    assert [(each.media_type, each.file_name, each.attachment) for each in tree.parts] == [
        ("text/plain", "", False),
        ("application/octet-stream", "large.bin", True),
        ("application/octet-stream", "small.bin", True),
        ("message/rfc822", "", True),
    ]
    assert (tree.parts[3].summary.subject, tree.parts[3].summary.list_id) == ("inner", "list.example.org")
    assert [[cell] for cell in await streamed(bob, [message_id], sections)] == [
        [[None if total < 0 else octets]] for octets, total in read
    ]
    for section, (octets, total) in zip(sections, read, strict=True):
        if total >= 0:
            assert await content(bob, message_id, section) == octets
        else:
            with pytest.raises(PartNotFound):
                await content(bob, message_id, section)


async def test_a_large_part_is_decoded_in_streams_with_its_length_first(bob: Mail) -> None:  # noqa: F811
    ids = [await append(bob, letter()), await append(bob, letter(b"file"))]
    assert await content(bob, ids[0], part(2)) == BINARY
    assert await content(bob, ids[0], part(2, offset_octets=700_001)) == BINARY[700_001:]
    assert await content(bob, ids[0], part(2, offset_octets=1_000_000, length_octets=5)) == BINARY[1_000_000:][:5]
    sections = [part(1, decoding=AS_TEXT), part(2), part(3), part(2, offset_octets=600_000, length_octets=400_000)]
    assert await streamed(bob, ids, sections) == [
        [TEXT.encode()] * 2,
        [BINARY, b"file"],
        [SMALL] * 2,
        [BINARY[600_000:1_000_000], b""],
    ]


async def test_a_batch_decodes_the_beginning_of_a_large_part_and_refuses_what_takes_long(bob: Mail) -> None:  # noqa: F811
    message_id = await append(bob, letter())
    beginning = part(2, offset_octets=100, length_octets=1_000)
    asked = {"messages": by_id(message_id)}
    got = await bob.call(methods.BATCH_GET_MESSAGES, **asked, sections=[beginning, part(3)])
    assert [cell.octets[0] for cell in got.rows.sections] == [BINARY[100:1_100], SMALL]
    for section in (part(2), part(2, offset_octets=1_000_000, length_octets=1)):
        with pytest.raises(ResultTooLarge) as refused:
            await bob.call(methods.BATCH_GET_MESSAGES, **asked, sections=[section])
        assert refused.value.metadata["rpc"] == "MessageService/StreamMessages"
    # The work of a batch is bounded even where its answer is small.
    late = part(2, offset_octets=decoded.AT_ONCE_OCTETS // 2, length_octets=1)
    with pytest.raises(ResultTooLarge):
        await bob.call(methods.BATCH_GET_MESSAGES, **asked, sections=[late] * 8)
    assert await streamed(bob, [message_id], [late] * 8) == [[BINARY[decoded.AT_ONCE_OCTETS // 2 :][:1]]] * 8


async def test_text_in_utf_8_may_be_longer_than_as_stored(bob: Mail) -> None:  # noqa: F811
    lines = 20_000
    message_id = await append(bob, letter(b"x", lines))
    assert await content(bob, message_id, part(1, decoding=AS_TEXT)) == TEXT.encode() * lines
    assert await streamed(bob, [message_id], [part(1, decoding=AS_TEXT)]) == [[TEXT.encode() * lines]]


@pytest.mark.parametrize(
    "section",
    [
        v1.Section(decoding=TRANSFER),
        v1.Section(kind=v1.SECTION_KIND_WHOLE, decoding=AS_TEXT),
        v1.Section(kind=v1.SECTION_KIND_HEADER, decoding=TRANSFER),
        part(1, kind=v1.SECTION_KIND_MIME),
        part(4, kind=v1.SECTION_KIND_TEXT),
        part(4, kind=v1.SECTION_KIND_HEADER_FIELDS, fields=["subject"]),
        v1.Section(part=[1], decoding=9),  # type: ignore[arg-type]
    ],
)
async def test_only_the_body_of_a_part_can_be_decoded(bob: Mail, section: v1.Section) -> None:  # noqa: F811
    message_id = await append(bob, letter(b"file"))
    with pytest.raises(InvalidArgument) as refused:
        await bob.call(methods.BATCH_GET_MESSAGES, messages=by_id(message_id), sections=[section])
    assert refused.value.metadata["field"] == "sections[0].decoding"
    with pytest.raises(InvalidArgument) as refused:
        await content(bob, message_id, section)
    assert refused.value.metadata["field"] == "section.decoding"


async def test_a_message_that_is_not_there_has_no_parts(bob: Mail) -> None:  # noqa: F811
    with pytest.raises(MessageNotFound):
        await content(bob, 999, part(1))


async def test_part_trees_come_with_queries_and_in_batches(bob: Mail) -> None:  # noqa: F811
    inbox = (await bob.folder("Inbox")).folder_id
    for _ in range(3):
        await append(bob, letter(b"file"))
    await bob.append(inbox)
    columns = [v1.MESSAGE_COLUMN_PARTS, v1.MESSAGE_COLUMN_PREVIEW]
    page = await bob.call(methods.QUERY_MESSAGES, folder_id=inbox, columns=columns)
    shown = dict(zip(page.rows.message_ids, page.rows.parts, strict=True))
    assert sorted(tree.media_type for tree in shown.values()) == ["multipart/mixed"] * 3 + ["text/plain"]
    counts = dict(zip(page.rows.message_ids, page.rows.attachment_counts, strict=True))
    assert counts == {each: sum(one.attachment for one in tree.parts) for each, tree in shown.items()}
    request = v1.StreamMessagesRequest(messages=messages(inbox, 1, 2, 3, 4), columns=columns[:1])
    batches = await bob.stream("MessageService", "StreamMessages", request)
    rows = [pair for batch in batches for pair in zip(batch.rows.message_ids, batch.rows.parts, strict=True)]
    assert dict(rows) == shown


async def test_a_batch_of_large_trees_ends_early(bob: Mail) -> None:  # noqa: F811
    parts = b"".join(b"--b\nContent-Type: text/plain; name=%d-%s\n\nx\n" % (at, b"n" * 100) for at in range(500))
    large = b"Content-Type: multipart/mixed; boundary=b\n\n" + parts + b"--b--\n"
    ids = [await append(bob, large) for _ in range(5)]
    request = v1.StreamMessagesRequest(messages=by_id(*ids), columns=[v1.MESSAGE_COLUMN_PARTS])
    batches = await bob.stream("MessageService", "StreamMessages", request)
    assert [each for batch in batches for each in batch.rows.message_ids] == ids
    assert len(batches) > 1
    assert all(batch.ByteSize() < message_rows.BATCH_OCTETS + (150 << 10) for batch in batches)
    assert all(len(tree.parts) == 500 for batch in batches for tree in batch.rows.parts)


async def test_part_trees_need_no_octets_of_a_content(bench: Bench, bob: Mail) -> None:  # noqa: F811
    message_id = await append(bob, letter().replace(b"message/rfc822", b"text/x-plain"))
    directory = bench.core.contents.directory
    (file,) = [path for path in directory.glob("*/*") if path.is_file()]
    file.rename(directory / "elsewhere")
    got = await bob.call(methods.BATCH_GET_MESSAGES, messages=by_id(message_id), columns=[v1.MESSAGE_COLUMN_PARTS])
    assert [part.media_type for part in got.rows.parts[0].parts][1:] == ["application/octet-stream"] * 2 + [
        "text/x-plain"
    ]
    (directory / "elsewhere").rename(file)
