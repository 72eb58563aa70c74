"""The column of part trees, made of the stored trees of contents. It reads octets only for the headers of embedded
messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection

from restante.v1.message_pb2 import MessagePart
from restante_mail.header.address_list import Tokens
from restante_mail.header.summary import read_header, summary
from restante_mail.header.words import decode_text
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.mime import parts
from restante_mail.mime.numbered import numbered
from restante_mail.mime.parts import Part
from restante_server.store import contents
from restante_server.store.contents import Location, Stored
from restante_server.store.listing import storable, summary_message

MOST_LEVELS: Final = 80  # protobuf's decoders take 100, and the responses around a tree need some
TEXT_OCTETS: Final = 512 << 10  # texts of one tree
EMBEDDED_HEADER_OCTETS: Final = 256 << 10  # headers of embedded messages that are read for one tree
LONGEST_WORD: Final = 255  # characters of a media type or an encoding


class Reader(Protocol):
    """Reads octets of a content."""

    def __call__(self, offset: int, length: int) -> bytes: ...


def trees(tx: Connection, directory: Path, content_ids: Sequence[int]) -> Iterator[MessagePart]:
    """The part trees of these contents, each made when the caller takes it."""
    found = contents.load(tx, content_ids)
    for content_id in content_ids:
        stored = found[content_id]
        yield tree(parts.decode(stored.structure), _Octets(tx, directory, stored))


class _Octets:
    """Reads octets of one content, which is loaded at the first call if the database holds it."""

    def __init__(self, tx: Connection, directory: Path, stored: Stored) -> None:
        self._tx, self._directory, self._stored = tx, directory, stored

    def __call__(self, offset: int, length: int) -> bytes:
        if self._stored.place is Location.DATABASE and self._stored.octets is None:
            content_id = self._stored.content_id
            self._stored = contents.load(self._tx, [content_id], octets=True)[content_id]
        return contents.read_range(self._tx, self._directory, self._stored, offset, length)


def tree(root: Part, read: Reader) -> MessagePart:
    """The contract's tree of a stored one."""
    made = MessagePart()
    fill = _Fill(read)
    above: list[MessagePart] = []  # the parts on the way from the root to the present one
    for number, level, part, attachment in numbered(root):
        if level >= MOST_LEVELS:
            continue
        del above[level:]
        into = above[-1].parts.add() if above else made
        above.append(into)
        fill(into, part, opaque=level == MOST_LEVELS - 1 and bool(part.children))
        into.part.extend(number)
        if attachment:
            into.attachment = True
    return made


class _Fill:
    """Fills the messages of one tree, with the rest of its limits."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._text_left, self._header_left = TEXT_OCTETS, EMBEDDED_HEADER_OCTETS
        self._tokens = Tokens(DEFAULT_LIMITS.address_tokens)

    def __call__(self, into: MessagePart, part: Part, *, opaque: bool) -> None:
        if self._text_left > 0:
            if part.content:
                _add_texts(into, part)
            if part.is_message and part.children and not opaque and self._header_left > 0:
                self._add_summary(into, part.children[0])
            self._text_left -= into.ByteSize()
            if self._text_left < 0:
                into.Clear()
        into.media_type = "application/octet-stream" if opaque else storable(part.media_type[:LONGEST_WORD])
        into.transfer_encoding = storable(part.encoding[:LONGEST_WORD])
        into.size_octets = part.octets

    def _add_summary(self, into: MessagePart, inner: Part) -> None:
        """Add the summary of an embedded message."""
        most = self._header_left
        block = self._read(inner.header_start, min(inner.body_start - inner.header_start, most + 1))
        self._header_left -= len(block)
        limits = replace(DEFAULT_LIMITS, header_octets=most)
        into.summary.CopyFrom(summary_message(summary(read_header(block, limits, self._tokens))))


def _add_texts(into: MessagePart, part: Part) -> None:
    """Add the texts of a part's Content-* fields."""
    content = part.content
    if "type" in content:
        parameters = part.parameters
        for name, value in parameters.items():
            into.parameters[storable(name)] = storable(value)
        if "charset" in parameters:
            into.charset = storable(parameters["charset"])
    if "disposition" in content:
        into.disposition = storable(part.disposition)
    if name := part.filename:
        into.file_name = storable(name)
    if "id" in content:
        into.content_id = storable(decode_text(part.content_id))
    if "description" in content:
        into.content_description = storable(decode_text(content["description"]))
    if "location" in content:
        into.location = storable(decode_text(content["location"]))
    if "language" in content:
        into.languages.extend(storable(decode_text(tag)) for tag in part.languages)
