"""The check of a whole store: invariants of mailboxes, contents, queue, jobs and secrets, and digests of contents."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from restante_server.directory import check as directory_check
from restante_server.store import check as store_check
from restante_server.transport import check as transport_check
from restante_server.upkeep import digests
from restante_server.upkeep.jobs import check as jobs_check

INVARIANTS = (store_check.check, transport_check.check, jobs_check.check, directory_check.check)
"""Each returns one line for each violation in one snapshot."""

DIGESTS_AT_ONCE = 500  # contents


def findings(tx: Connection, contents: Path) -> list[str]:
    """One line for each violation in a store, wrong digests included."""
    found = [finding for check in INVARIANTS for finding in check(tx)]
    last: int | None = 0
    while last is not None:
        compared = digests.compare(tx, contents, last, DIGESTS_AT_ONCE)
        last = compared.last
        found += compared.findings
    return found
