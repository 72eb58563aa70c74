"""MailboxService: see protos/restante/v1/mailbox.proto."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import mailbox_pb2 as v1
from restante.v1 import methods
from restante_server.api.engine.access import ANY_SESSION, MAILDROP_SESSION
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers, few
from restante_server.api.services import convert, pages
from restante_server.api.services.sets import MOST_ROWS
from restante_server.store import flags, folders, mailboxes, removal, rows
from restante_server.store.flags import FlagChange
from restante_server.store.mailboxes import LEASE_OCTETS
from restante_server.store.removal import Mode
from restante_server.store.selection import FLAG_SEEN, Selection

handlers = Handlers()

MAILDROP_AT_ONCE: Final = 10_000  # messages in one response: below 256 KiB even with the largest numbers
_MAILDROP: Final = "maildrop"


@handlers.read(methods.GET_MAILBOX, rule=ANY_SESSION, short=few)
def get_mailbox(tx: Connection, call: Call, request: v1.GetMailboxRequest) -> v1.GetMailboxResponse:
    facts = mailboxes.get(tx, call.place(tx, request.mailbox_id))
    return v1.GetMailboxResponse(mailbox=convert.mailbox(facts, call.core.epoch))


@handlers.read(methods.LIST_MAILBOXES, rule=ANY_SESSION, short=few)
def list_mailboxes(tx: Connection, call: Call, request: v1.ListMailboxesRequest) -> v1.ListMailboxesResponse:
    """The session's own mailbox alone, because mailboxes cannot be shared yet."""
    facts = mailboxes.get(tx, call.place(tx, 0))
    return v1.ListMailboxesResponse(mailboxes=[convert.mailbox(facts, call.core.epoch)])


@handlers.direct(methods.ACQUIRE_MAILDROP, rule=MAILDROP_SESSION)
async def acquire_maildrop(call: Call, request: v1.AcquireMaildropRequest) -> v1.AcquireMaildropResponse:
    claim = call.claim(request.mailbox_id)
    lease = request.lease or secrets.token_bytes(LEASE_OCTETS)
    if len(lease) != LEASE_OCTETS:
        raise InvalidArgument(field="lease", problem=f"must have {LEASE_OCTETS} octets")
    (last,) = pages.key(_MAILDROP, request.page_token)
    after_uid = pages.number(last) if last else 0

    def run(tx: Connection) -> v1.AcquireMaildropResponse:
        place = claim.place(tx)
        expires_at = mailboxes.acquire_maildrop(tx, place, lease)
        inbox = folders.inbox(tx, place)
        facts = folders.get(tx, inbox)
        uids, message_ids, sizes = rows.maildrop(tx, inbox, after_uid, MAILDROP_AT_ONCE)
        return v1.AcquireMaildropResponse(
            lease=lease,
            expires_at=convert.timestamp(expires_at),
            folder_id=facts.folder_id,
            uid_validity=facts.uid_validity,
            change_number=facts.change_number,
            uids=uids,
            size_octets=sizes,
            message_ids=message_ids,
            next_page_token=pages.token(_MAILDROP, str(uids[-1])) if len(uids) == MAILDROP_AT_ONCE else "",
        )

    return await call.write(request, run, claims=(claim,))


@handlers.write(methods.RENEW_MAILDROP, rule=MAILDROP_SESSION)
def renew_maildrop(tx: Connection, call: Call, request: v1.RenewMaildropRequest) -> v1.RenewMaildropResponse:
    expires_at = mailboxes.renew_maildrop(tx, call.place(tx, request.mailbox_id), request.lease)
    return v1.RenewMaildropResponse(expires_at=convert.timestamp(expires_at))


def _named(request: v1.ReleaseMaildropRequest) -> int:
    """The number of messages that the request names, for the size of its write."""
    runs = (*request.seen_uids, *request.deleted_uids)
    return min(MOST_ROWS, 1 + sum(max(0, run.last - run.first + 1) for run in runs))


@handlers.write(methods.RELEASE_MAILDROP, rule=MAILDROP_SESSION, rows=_named)
def release_maildrop(tx: Connection, call: Call, request: v1.ReleaseMaildropRequest) -> v1.ReleaseMaildropResponse:
    place = call.place(tx, request.mailbox_id)
    seen = convert.id_set(request.seen_uids, "seen_uids")
    unwanted = convert.id_set(request.deleted_uids, "deleted_uids")
    deleted = 0
    if mailboxes.release_maildrop(tx, place, request.lease):
        inbox = folders.inbox(tx, place)
        flags.change_flags(tx, inbox, Selection(inbox.folder_id, seen), FlagChange.ADD, FLAG_SEEN)
        deleted = len(
            removal.remove(tx, inbox, Selection(inbox.folder_id, unwanted), Mode.SOFT, call.now).messages.uids
        )
    number = mailboxes.change_number(tx, place)
    return v1.ReleaseMaildropResponse(
        deleted_count=deleted, commit=convert.commit_token(call, place.mailbox_id, number)
    )
