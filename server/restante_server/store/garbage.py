"""Contents that may have lost their last holder. The collector (upkeep.collector) checks them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from sqlalchemy import Connection, Insert

from restante_server.db import prepared
from restante_server.db.schema import content_garbage
from restante_server.db.upsert import insert_for


def notice(tx: Connection, content_ids: Iterable[int], now: int) -> None:
    """Report that these contents have lost a holder; the collector checks whether it was the last.

    An existing row is updated, and so locked until the commit, because a collector that still sees the holder must not
    delete the row.
    """
    rows = [{"content_id": content_id, "noticed_at": now} for content_id in sorted(set(content_ids))]
    if rows:
        prepared.run_many(tx, _again(tx.dialect.name), rows)


@cache
def _again(dialect: str) -> Insert:
    insert = insert_for(dialect, content_garbage)
    noticed = {"noticed_at": insert.excluded.noticed_at}
    return insert.on_conflict_do_update(index_elements=["content_id"], set_=noticed)
