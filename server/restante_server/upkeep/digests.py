"""Comparison of stored contents with their digests and sizes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from restante_server.db.schema import content, content_octets
from restante_server.store.contents import ContentState, Location

CHUNK_OCTETS = 1 << 20

_count = select(func.count()).select_from(content).where(content.c.state == ContentState.LIVE)
_page = (
    select(
        content.c.content_id,
        content.c.digest,
        content.c.size_octets,
        content.c.place,
        content.c.file_name,
        content_octets.c.octets,
    )
    .select_from(content.outerjoin(content_octets, content_octets.c.content_id == content.c.content_id))
    .where(content.c.content_id > bindparam("after"), content.c.state == ContentState.LIVE)
    .order_by(content.c.content_id)
    .limit(bindparam("most"))
)


def live_contents(tx: Connection) -> int:
    """The number of contents to compare."""
    return int(tx.execute(_count).scalar_one())


class Compared(NamedTuple):
    """The outcome of one round of `compare`."""

    last: int | None  # id of the last content compared; None: there was none
    compared: int  # contents
    findings: list[str]  # one line for each violation


def compare(tx: Connection, directory: Path, after: int, most: int, most_octets: int = 1 << 62) -> Compared:
    """Compare contents with ids above `after`: at most `most`, and no more once they have `most_octets`."""
    last, count, octets, findings = None, 0, 0, []
    for row in tx.execute(_page, {"after": after, "most": most}):
        last, count, octets = row.content_id, count + 1, octets + row.size_octets
        try:
            digest, size = _of_file(directory / row.file_name) if row.place == Location.FILE else _of(row.octets)
        except OSError as error:
            findings.append(f"content {row.content_id}: the file cannot be read: {error.strerror}")
        else:
            if (digest, size) != (bytes(row.digest), row.size_octets):
                findings.append(f"content {row.content_id}: the octets do not match the stored digest")
        if octets >= most_octets:
            break
    return Compared(last, count, findings)


def _of(octets: bytes | None) -> tuple[bytes, int]:
    return hashlib.sha256(octets or b"").digest(), len(octets or b"")


def _of_file(path: Path) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_OCTETS):
            digest.update(chunk)
            size += len(chunk)
    return digest.digest(), size
