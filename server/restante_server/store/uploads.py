"""Uploads: contents that an account has sent and will name soon. They lapse after an hour.

Each piece is a row until the upload is finished; then a content holds the octets, and the pieces are removed. A large
upload has many octets in pieces, so `shed` and `lapse` remove a few at a time and other writers wait only briefly.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update

from restante.errors import AccountLimitReached, MessageTooLarge, UploadNotFound, UploadOffsetMismatch
from restante_server.db.schema import upload, upload_piece
from restante_server.store.garbage import notice
from restante_server.store.staging import Staged

HOUR = 3_600_000_000  # microseconds: the life of an upload
PIECES_AT_ONCE = 8  # removed in one write: 4 MiB of pieces of the largest size
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on an account's uploads that no message uses yet. Expired uploads count until they are removed."""

    uploads: int
    octets: int


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload. `content_id` is None until it is finished."""

    upload_id: bytes
    kind: int  # restante.v1.UploadKind
    received_octets: int
    content_id: int | None
    line_ends_changed: bool


def require(tx: Connection, account_id: int, limits: Limits, *, octets: int, uploads: int = 0) -> None:
    """Raise AccountLimitReached when so many more octets and uploads would exceed the account's limits."""
    held = select(func.count(), func.coalesce(func.sum(upload.c.received_octets), 0))
    count, received = tx.execute(held.where(upload.c.account_id == account_id)).one()
    if count + uploads > limits.uploads:
        raise AccountLimitReached(resource="uploads", limit=limits.uploads, retry_seconds=RETRY_SECONDS)
    if received + octets > limits.octets:
        raise AccountLimitReached(resource="upload_octets", limit=limits.octets, retry_seconds=RETRY_SECONDS)


def begin(tx: Connection, upload_id: bytes, account_id: int, kind: int, now: int) -> None:
    """Insert a new, empty upload."""
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
    """An upload of this account. Raises UploadNotFound, also for an upload of another account."""
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


def add_piece(
    tx: Connection, found: Upload, account_id: int, offset: int, octets: bytes, limit: int, limits: Limits
) -> int:
    """Store a piece; returns the number of octets received so far. Ignores a piece that was received before.

    Raises UploadOffsetMismatch when the piece does not begin at the end of the received octets, MessageTooLarge above
    `limit`, AccountLimitReached above the account's limits.
    """
    received = found.received_octets
    if offset + len(octets) <= received:
        return received
    if offset != received:
        raise UploadOffsetMismatch(size_octets=received)
    if received + len(octets) > limit:
        raise MessageTooLarge(limit_octets=limit)
    require(tx, account_id, limits, octets=len(octets))
    tx.execute(insert(upload_piece).values(upload_id=found.upload_id, offset_octets=offset, octets=octets))
    received += len(octets)
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
    """Finish an upload whose octets have all come: it now holds the content, and `shed` may remove its pieces.

    Returns the content's id.
    """
    content_id = staged.insert(tx, now)
    values = {
        "content_id": content_id,
        "received_octets": received,
        "line_ends_changed": staged.line_ends_changed,
        "expires_at": now + HOUR,
    }
    tx.execute(update(upload).where(upload.c.upload_id == upload_id).values(values))
    return content_id


def take(tx: Connection, upload_id: bytes, account_id: int, now: int) -> int:
    """Use up a finished upload; returns the id of its content, which the caller names in this transaction.

    Raises UploadNotFound, also for an upload that is not finished.
    """
    found = get(tx, upload_id, account_id, now)
    if found.content_id is None:
        raise UploadNotFound
    tx.execute(delete(upload).where(upload.c.upload_id == upload_id))
    return found.content_id


def shed(tx: Connection, upload_id: bytes) -> bool:
    """Remove some pieces of an upload that no longer needs them; False when it had none left."""
    some = (
        select(upload_piece.c.offset_octets)
        .where(upload_piece.c.upload_id == upload_id)
        .order_by(upload_piece.c.offset_octets)
        .limit(PIECES_AT_ONCE)
    )
    offsets = list(tx.scalars(some))
    if offsets:
        tx.execute(
            delete(upload_piece).where(
                upload_piece.c.upload_id == upload_id, upload_piece.c.offset_octets.between(offsets[0], offsets[-1])
            )
        )
    return bool(offsets)


_past = (
    select(upload.c.upload_id)
    .where(
        or_(
            upload.c.expires_at <= bindparam("now"),
            # A core finished the upload and ended before it removed the pieces.
            and_(upload.c.content_id.is_not(None), exists().where(upload_piece.c.upload_id == upload.c.upload_id)),
        )
    )
    .limit(bindparam("most"))
)


def past(tx: Connection, now: int, most: int = 100) -> list[bytes]:
    """Expired uploads, and finished ones that still have pieces."""
    return list(tx.scalars(_past, {"now": now, "most": most}))


def lapse(tx: Connection, upload_id: bytes, now: int) -> bool:
    """Do one step of removing an upload that `past` has listed; False when no step is left.

    The steps remove its pieces, a few at a time, then the upload, and report its content to the collector.
    """
    if shed(tx, upload_id):
        return True
    gone = delete(upload).where(upload.c.upload_id == upload_id, upload.c.expires_at <= now)
    for (content_id,) in tx.execute(gone.returning(upload.c.content_id)).all():
        if content_id is not None:
            notice(tx, [content_id], now)
    return False
