"""The columns and sections that a request wants of messages, and how they are read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from restante.errors import InvalidArgument, TooComplex
from restante.v1 import message_pb2 as v1
from restante_mail.mime.decoders import Decoding
from restante_server.api.services import convert
from restante_server.store import contents, rows
from restante_server.store.contents import Loaded, Reader, Wanted

MOST_SECTIONS: Final = 32
SIZED: Final = ("envelope", "body_structure", "body", "summary", "preview", "checks")
"""Columns whose octets count for the size of an answer."""
_MOST_KEPT_OCTETS: Final = 1_024  # of encoded sections whose Shape is kept

_COLUMNS: Final[dict[int, tuple[str, ...]]] = {
    v1.MESSAGE_COLUMN_FLAGS: ("flags", "keywords"),
    v1.MESSAGE_COLUMN_CHANGE_NUMBER: ("change_number",),
    v1.MESSAGE_COLUMN_RECEIVED_AT: ("received_at", "received_offset_minutes"),
    v1.MESSAGE_COLUMN_SIZE: ("size_octets",),
    v1.MESSAGE_COLUMN_ENVELOPE: ("envelope",),
    v1.MESSAGE_COLUMN_BODY_STRUCTURE: ("body_structure",),
    v1.MESSAGE_COLUMN_BODY: ("body",),
    v1.MESSAGE_COLUMN_SUMMARY: ("summary",),
    v1.MESSAGE_COLUMN_PREVIEW: ("preview", "attachment_count"),
    v1.MESSAGE_COLUMN_FOLDER: ("folder_id",),
    v1.MESSAGE_COLUMN_PARTS: ("parts",),
    v1.MESSAGE_COLUMN_CHECKS: ("checks",),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns and sections that a request wants of each message."""

    names: frozenset[str]  # wanted columns
    sections: tuple[Wanted, ...]
    stored_names: frozenset[str]  # the columns to read from the store
    order: tuple[str, ...]  # of the columns in a row
    loaded: Loaded  # of the contents, behind them
    sized: tuple[int, ...]  # positions of the SIZED columns in a row
    readers: tuple[Reader, ...] | None  # of the sections; None: not all of them have one
    decodes: bool  # a section is decoded

    @classmethod
    def of(cls, columns: Sequence[int], sections: Sequence[v1.Section]) -> Shape:
        """The Shape of a request's fields. Raises InvalidArgument, TooComplex.

        Clients send the same few again and again, so those of small requests are kept.
        """
        encoded = tuple([section.SerializeToString() for section in sections])
        if sum(map(len, encoded)) > _MOST_KEPT_OCTETS:
            return _shape(columns, sections)
        return _kept_shape(tuple(columns), encoded)


@lru_cache(maxsize=256)
def _kept_shape(columns: tuple[int, ...], sections: tuple[bytes, ...]) -> Shape:
    return _shape(columns, [v1.Section.FromString(encoded) for encoded in sections])


def _shape(columns: Sequence[int], sections: Sequence[v1.Section]) -> Shape:
    if len(sections) > MOST_SECTIONS:
        raise TooComplex(limit=MOST_SECTIONS, value=len(sections))
    if any(column not in _COLUMNS for column in columns):
        raise InvalidArgument(field="columns", problem="must be MessageColumn values other than UNSPECIFIED")
    names = frozenset(name for column in columns for name in _COLUMNS[column])
    wanted = tuple(convert.wanted(section, f"sections[{at}]") for at, section in enumerate(sections))
    loaded = _loaded(wanted)
    needed = {"head"} if wanted else set()
    if "parts" in names or loaded is Loaded.OCTETS:
        needed.add("content_id")
    stored_names = names - {"parts"} | needed
    order = rows.order(stored_names)
    readers = tuple(reader for each in wanted if (reader := contents.reader(each)) is not None)
    return Shape(
        names,
        wanted,
        stored_names,
        order,
        loaded,
        tuple(order.index(name) for name in SIZED if name in names),
        readers if len(readers) == len(wanted) else None,
        any(each.decoding is not Decoding.NONE for each in wanted),
    )


def _loaded(sections: Sequence[Wanted]) -> Loaded:
    if not sections:
        return Loaded.NOTHING
    return Loaded.STORED if contents.need_structure(sections) else Loaded.OCTETS


NOTHING: Final = _shape((), ())
"""Message ids and UIDs alone."""
