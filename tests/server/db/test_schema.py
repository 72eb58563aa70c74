"""Columns that name a content are marked, so that the collector and the check find every reference."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from restante_server.db import schema


def references_content(column: Column[object]) -> bool:
    """Whether a column refers to a content, by its name or by a foreign key."""
    named = "content" in column.name and column.name.endswith("_id")
    return named or any(key.target_fullname == "content.content_id" for key in column.foreign_keys)


def unmarked(metadata: MetaData) -> list[str]:
    return [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if references_content(column) and column.info not in (schema.HOLDS_CONTENT, schema.NAMES_CONTENT)
    ]


def test_every_column_that_names_a_content_says_whether_it_holds_it() -> None:
    assert unmarked(schema.metadata) == []


def test_the_columns_that_hold_a_content_are_known() -> None:
    assert {f"{column.table.name}.{column.name}" for column in schema.CONTENT_HOLDERS} == {
        "content_pin.content_id",
        "message.content_id",
        "transport_message.content_id",
        "upload.content_id",
    }


def test_a_column_without_a_mark_is_found() -> None:
    made = MetaData()
    Table("content", made, Column("content_id", Integer, primary_key=True, info=schema.NAMES_CONTENT))
    Table(
        "draft",
        made,
        Column("body_content_id", Integer),
        Column("attachment", Integer, ForeignKey("content.content_id")),
        Column("content_type", Integer),
        Column("preview_content_id", Integer, info=schema.HOLDS_CONTENT),
    )
    assert unmarked(made) == ["draft.body_content_id", "draft.attachment"]
