"""Every invariant of a store: those of mailboxes and contents, those of the queue, and the digests of contents."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from restante_server.store import check as store_check
from restante_server.transport import check as transport_check
from restante_server.upkeep import digests

INVARIANTS = (store_check.check, transport_check.check)
"""Each returns a line for each thing that is wrong, from one snapshot."""

DIGESTS_AT_ONCE = 500  # contents


def findings(tx: Connection, contents: Path) -> list[str]:
    """Everything that is wrong with a store, digests included."""
    found = [finding for check in INVARIANTS for finding in check(tx)]
    last: int | None = 0
    while last is not None:
        last, wrong = digests.compare(tx, contents, last, DIGESTS_AT_ONCE)
        found += wrong
    return found
