"""Uploads: contents that an account has brought and will name soon. They lapse after an hour."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from restante.errors import MessageTooLarge, UploadNotFound, UploadOffsetMismatch
from restante_server.db.schema import upload, upload_piece
from restante_server.store.garbage import notice
from restante_server.store.staging import HOUR, Staged


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload. `content_id` is None until it is finished."""

    upload_id: bytes
    kind: int  # restante.v1.UploadKind
    received_octets: int
    content_id: int | None
    line_ends_changed: bool


def begin(tx: Connection, upload_id: bytes, account_id: int, kind: int, now: int) -> None:
    """A new upload, of which nothing has come yet."""
    tx.execute(
        insert(upload).values(
            upload_id=upload_id,
            account_id=account_id,
            kind=kind,
            received_octets=0,
            line_ends_changed=False,
            expires_at=now + HOUR,
        )
    )


def get(tx: Connection, upload_id: bytes, account_id: int, now: int) -> Upload:
    """An upload of this account. Raises UploadNotFound for others' too."""
    columns = (
        upload.c.upload_id,
        upload.c.kind,
        upload.c.received_octets,
        upload.c.content_id,
        upload.c.line_ends_changed,
    )
    row = tx.execute(
        select(*columns).where(
            upload.c.upload_id == upload_id, upload.c.account_id == account_id, upload.c.expires_at > now
        )
    ).one_or_none()
    if row is None:
        raise UploadNotFound
    return Upload(*row)


def add_piece(tx: Connection, found: Upload, offset: int, octets: bytes, limit: int) -> int:
    """Take a piece; returns how many octets have come. One that has come already is passed over.

    Raises UploadOffsetMismatch when it does not continue where the upload stands, MessageTooLarge above `limit`.
    """
    received = found.received_octets
    if offset + len(octets) <= received:
        return received
    if offset != received:
        raise UploadOffsetMismatch(size_octets=received)
    tx.execute(insert(upload_piece).values(upload_id=found.upload_id, offset_octets=offset, octets=octets))
    received += len(octets)
    if received > limit:
        raise MessageTooLarge(limit_octets=limit)
    tx.execute(update(upload).where(upload.c.upload_id == found.upload_id).values(received_octets=received))
    return received


def next_piece(tx: Connection, upload_id: bytes, offset: int) -> bytes | None:
    """The piece at this offset, None at the end."""
    piece = tx.execute(
        select(upload_piece.c.octets).where(
            upload_piece.c.upload_id == upload_id, upload_piece.c.offset_octets == offset
        )
    ).scalar_one_or_none()
    return bytes(piece) if piece is not None else None


def finish(tx: Connection, upload_id: bytes, received: int, staged: Staged, now: int) -> int:
    """All has come: the upload holds the content from now on. Returns the content's id."""
    content_id = staged.insert(tx, now)
    tx.execute(delete(upload_piece).where(upload_piece.c.upload_id == upload_id))
    values = {
        "content_id": content_id,
        "received_octets": received,
        "line_ends_changed": staged.line_ends_changed,
        "expires_at": now + HOUR,
    }
    tx.execute(update(upload).where(upload.c.upload_id == upload_id).values(values))
    return content_id


def take(tx: Connection, upload_id: bytes, account_id: int, now: int) -> int:
    """The content of a finished upload, which is used up: name it in this transaction.

    Raises UploadNotFound also for one that is not finished.
    """
    found = get(tx, upload_id, account_id, now)
    if found.content_id is None:
        raise UploadNotFound
    tx.execute(delete(upload).where(upload.c.upload_id == upload_id))
    return found.content_id


def lapse(tx: Connection, now: int, limit: int = 1_000) -> int:
    """Forget uploads past their time; returns how many. Their contents go to the collector."""
    rows = list(
        tx.execute(select(upload.c.upload_id, upload.c.content_id).where(upload.c.expires_at <= now).limit(limit))
    )
    if rows:
        ids = [row.upload_id for row in rows]
        tx.execute(delete(upload_piece).where(upload_piece.c.upload_id.in_(ids)))
        tx.execute(delete(upload).where(upload.c.upload_id.in_(ids)))
        notice(tx, (row.content_id for row in rows if row.content_id is not None), now)
    return len(rows)
