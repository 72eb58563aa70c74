"""Composing a message from the structured parts of a request, for drafts and for submission."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime

from sqlalchemy import Connection

from restante.errors import InvalidAddress, InvalidArgument, MessageTooLarge
from restante.v1.message_pb2 import Attachment, Draft
from restante.v1.types_pb2 import MailAddress
from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, ComposeError, Outgoing, compose
from restante_server.api.engine.call import Call
from restante_server.store import contents, garbage, uploads

INLINE_OCTETS = 512 << 10  # of attachments in one request
MOST_ATTACHMENTS = 1_000
_ADDRESS_FIELDS = frozenset(("from", "sender", "reply-to", "to", "cc", "bcc"))


async def write_message(call: Call, draft: Draft) -> bytes:
    """The canonical octets of a draft.

    Raises InvalidAddress, InvalidArgument, UploadNotFound, MessageTooLarge.
    """
    attached = await _attachments(call, draft)
    author = draft.author if draft.HasField("author") else MailAddress(address=call.caller.address)
    domain = call.caller.address.rpartition("@")[2] or "localhost"
    parts = Outgoing(
        from_=[_address(author)],
        sent_at=datetime.fromtimestamp(call.now // 1_000_000, UTC),
        message_id=f"{secrets.token_hex(16)}@{domain}",
        reply_to=list(map(_address, draft.reply_to)),
        to=list(map(_address, draft.to)),
        cc=list(map(_address, draft.cc)),
        bcc=list(map(_address, draft.bcc)),
        subject=draft.subject,
        in_reply_to=[draft.in_reply_to.strip("<> ")] if draft.in_reply_to else [],
        references=[reference.strip("<> ") for reference in draft.references],
        text=draft.text if draft.text or not draft.html else None,
        html=draft.html or None,
        attachments=attached,
    )
    try:
        return await asyncio.to_thread(compose, parts)
    except ComposeError as error:
        if error.field.lower() in _ADDRESS_FIELDS:
            raise InvalidAddress(problem=error.reason) from error
        raise InvalidArgument(field=f"draft.{error.field}", problem=error.reason) from error


def upload_ids(draft: Draft) -> list[bytes]:
    """The ids of the uploads that a draft uses, each once. The transaction that stores the message uses them up."""
    return list(dict.fromkeys(attachment.upload_id for attachment in draft.attachments if attachment.upload_id))


def use_up(tx: Connection, upload_id: bytes, call: Call) -> None:
    """Use up an upload that is part of a message, and leave its octets to the collector."""
    content_id = uploads.take(tx, upload_id, call.caller.account_id, call.now)
    garbage.notice(tx, [content_id], call.now)


def _address(given: MailAddress) -> Address:
    return Address(given.display_name, given.address)


async def _attachments(call: Call, draft: Draft) -> list[Attached]:
    if len(draft.attachments) > MOST_ATTACHMENTS:
        raise InvalidArgument(field="draft.attachments", problem=f"must be at most {MOST_ATTACHMENTS}")
    if sum(len(attachment.content) for attachment in draft.attachments) > INLINE_OCTETS:
        raise InvalidArgument(
            field="draft.attachments", problem="inline contents may have 512 KiB together; upload larger ones"
        )
    left = limit = call.core.contents.settings.max_message_octets
    found: list[Attached] = []
    for attachment in draft.attachments:
        octets = await call.core.db.read(_octets, call, attachment, left)
        left -= len(octets)
        if left < 0:
            raise MessageTooLarge(limit_octets=limit)
        found.append(
            Attached(
                attachment.file_name,
                attachment.media_type or "application/octet-stream",
                octets,
                attachment.content_id.strip("<>") if attachment.inlined else "",
            )
        )
    return found


def _octets(tx: Connection, call: Call, attachment: Attachment, most: int) -> bytes:
    if not attachment.upload_id:
        return attachment.content
    upload = uploads.get(tx, attachment.upload_id, call.caller.account_id, call.now)
    if upload.content_id is None:
        raise InvalidArgument(field="draft.attachments", problem="an upload has not received all its octets")
    stored = contents.load(tx, [upload.content_id])[upload.content_id]
    return contents.read_range(tx, call.core.contents.directory, stored, 0, most + 1)
