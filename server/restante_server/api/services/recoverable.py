"""MessageService: messages that were deleted and can be recovered. See protos/restante/v1/message.proto."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.v1 import message_pb2 as v1
from restante.v1 import methods
from restante.v1.types_pb2 import MessageSummary
from restante_server.api.engine.access import MAIL_SESSION
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.directory import rights
from restante_server.store import mailboxes, removal

handlers = Handlers()

DAY = 24 * 3600 * 1_000_000  # microseconds


@handlers.read(methods.LIST_RECOVERABLE_MESSAGES, rule=MAIL_SESSION)
def list_recoverable_messages(
    tx: Connection, call: Call, request: v1.ListRecoverableMessagesRequest
) -> v1.ListRecoverableMessagesResponse:
    page = pages.Page.asked("recoverable", request, call.result_octets, 2)
    deleted_at, message_id = page.key
    after = (pages.number(deleted_at), pages.number(message_id)) if deleted_at else None
    found = removal.recoverable_page(tx, call.place(tx, request.mailbox_id), after, page.most)
    kept = call.core.settings.store.recoverable_days * DAY
    answer = v1.ListRecoverableMessagesResponse()
    return page.fill(
        answer,
        answer.messages,
        found,
        lambda item: v1.RecoverableMessage(
            message_id=item.message_id,
            from_folder_id=item.from_folder_id,
            deleted_at=convert.timestamp(item.deleted_at),
            purged_after=convert.timestamp(item.deleted_at + kept),
            size_octets=item.size_octets,
            summary=MessageSummary.FromString(item.summary),
        ),
        lambda last: (str(last.deleted_at), str(last.message_id)),
    )


@handlers.write(methods.RECOVER_MESSAGES, rule=MAIL_SESSION, rows=lambda request: len(request.message_ids))
def recover_messages(tx: Connection, call: Call, request: v1.RecoverMessagesRequest) -> v1.RecoverMessagesResponse:
    place = call.place(tx, request.mailbox_id)
    wanted = convert.message_ids(request.message_ids)
    target = rights.within(tx, place, request.target_folder_id) if request.target_folder_id else None
    done = removal.recover(tx, place, wanted, call.now, target=target)
    number = done.change_number or mailboxes.change_number(tx, place)
    commit = convert.commit_token(call, place.mailbox_id, number)
    return v1.RecoverMessagesResponse(
        message_ids=done.message_ids, folder_ids=done.folder_ids, uids=done.uids, commit=commit
    )


@handlers.write(
    methods.PURGE_RECOVERABLE_MESSAGES, rule=MAIL_SESSION, rows=lambda request: 3 * len(request.message_ids)
)
def purge_recoverable_messages(
    tx: Connection, call: Call, request: v1.PurgeRecoverableMessagesRequest
) -> v1.PurgeRecoverableMessagesResponse:
    wanted = convert.message_ids(request.message_ids)
    purged = removal.purge(tx, call.place(tx, request.mailbox_id), wanted, call.now)
    return v1.PurgeRecoverableMessagesResponse(purged_count=purged)
