"""Ids assigned to many rows at once belong to their rows, ascend, and are unique."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from restante_server.db.engine import Database
from restante_server.db.numbered import insert_numbered
from restante_server.db.operation import Write
from restante_server.db.schema import content


def rows(*sizes: int) -> list[dict[str, object]]:
    return [
        {"digest": b"", "size_octets": size, "place": 1, "state": 1, "structure": b"", "created_at": 0}
        for size in sizes
    ]


async def test_ids_are_in_the_order_of_the_rows_and_never_come_twice(database: Database) -> None:
    def run(tx: Connection) -> tuple[list[int], list[int], dict[int, int]]:
        assert insert_numbered(tx, content.c.content_id, []) == []
        first = insert_numbered(tx, content.c.content_id, rows(30, 10, 20))
        tx.execute(delete(content).where(content.c.content_id == first[-1]))
        second = insert_numbered(tx, content.c.content_id, rows(40))
        found = {row[0]: row[1] for row in tx.execute(select(content.c.content_id, content.c.size_octets))}
        return first, second, found

    first, second, found = await database.write(Write(run))
    assert first == sorted(first)
    assert second[0] > first[-1]
    assert found == {first[0]: 30, first[1]: 10, second[0]: 40}


async def test_ids_of_an_undone_transaction_may_come_again_but_never_clash(database: Database) -> None:
    def fails(tx: Connection) -> None:
        insert_numbered(tx, content.c.content_id, rows(1, 2))
        raise ValueError

    def run(tx: Connection) -> list[int]:
        return insert_numbered(tx, content.c.content_id, rows(3))

    before = await database.write(Write(run))
    try:
        await database.write(Write(fails))
    except ValueError:
        pass
    assert (await database.write(Write(run)))[0] > before[0]
