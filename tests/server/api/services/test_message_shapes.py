"""The Shape of a request's columns and sections."""

from __future__ import annotations

import pytest

from restante.errors import InvalidArgument, TooComplex
from restante.v1 import message_pb2 as v1
from restante_server.api.services.message_shapes import MOST_SECTIONS, NOTHING, Shape
from restante_server.store.contents import Loaded

WHOLE = v1.Section(kind=v1.SECTION_KIND_WHOLE)
HEADER = v1.Section(kind=v1.SECTION_KIND_HEADER)
PART = v1.Section(kind=v1.SECTION_KIND_WHOLE, part=[1])


@pytest.mark.parametrize(
    ("sections", "loaded", "reads_at_once"),
    [
        ([], Loaded.NOTHING, True),
        ([WHOLE], Loaded.OCTETS, True),
        ([WHOLE, HEADER], Loaded.STORED, True),
        ([WHOLE, PART], Loaded.STORED, False),
    ],
)
def test_no_more_of_the_contents_is_loaded_than_the_sections_need(
    sections: list[v1.Section], loaded: Loaded, reads_at_once: bool
) -> None:
    shape = Shape.of([v1.MESSAGE_COLUMN_SIZE], sections)
    assert (shape.loaded, shape.readers is not None) == (loaded, reads_at_once)
    assert len(shape.sections) == len(sections)
    assert ("head" in shape.order) == bool(sections)
    assert ("content_id" in shape.order) == (loaded is Loaded.OCTETS)


def test_sized_columns_are_found_in_the_row() -> None:
    shape = Shape.of([v1.MESSAGE_COLUMN_PREVIEW, v1.MESSAGE_COLUMN_ENVELOPE, v1.MESSAGE_COLUMN_FLAGS], [])
    assert [shape.order[at] for at in shape.sized] == ["envelope", "preview"]
    assert shape.names == {"flags", "keywords", "envelope", "preview", "attachment_count"}


def test_shapes_of_small_requests_are_kept() -> None:
    assert Shape.of([], []) == NOTHING
    assert Shape.of([v1.MESSAGE_COLUMN_SIZE], [WHOLE]) is Shape.of([v1.MESSAGE_COLUMN_SIZE], [WHOLE])
    assert Shape.of([v1.MESSAGE_COLUMN_SIZE], [WHOLE]) is not Shape.of([v1.MESSAGE_COLUMN_FLAGS], [WHOLE])
    large = v1.Section(kind=v1.SECTION_KIND_HEADER_FIELDS, fields=["x" * 2_000])
    assert Shape.of([], [large]) is not Shape.of([], [large])


def test_what_cannot_be_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(TooComplex):
            Shape.of([], [WHOLE] * (MOST_SECTIONS + 1))
        with pytest.raises(InvalidArgument):
            Shape.of([v1.MESSAGE_COLUMN_UNSPECIFIED], [])
        with pytest.raises(InvalidArgument):
            Shape.of([], [v1.Section(kind=v1.SECTION_KIND_WHOLE, fields=["to"])])
