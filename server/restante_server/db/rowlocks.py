"""The statements that lock rows in ascending order, for databases where several transactions write at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from restante_server.db import prepared
from restante_server.db.backend import LockRows


@functools.cache
def lock_rows(key: Column[Any]) -> LockRows:
    """A function that locks the rows whose integer `key` is among the ids; ids without a row are ignored.

    The plan sorts before it locks, so the rows are locked in the order of their ids. A process has one function, and so
    one prepared statement, for a key.
    """
    # FOR NO KEY UPDATE: the key never changes, so rows that refer to this one may be inserted meanwhile.
    statement = (
        select(key)
        .where(key == any_(bindparam("ids", type_=ARRAY(BigInteger))))
        .order_by(key)
        .with_for_update(key_share=True)
    )

    def lock(tx: Connection, ids: Sequence[int]) -> None:
        prepared.rows(tx, statement, {"ids": list(ids)})

    return lock
