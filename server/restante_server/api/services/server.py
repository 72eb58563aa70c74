"""SessionService.GetServer: the version, the limits and the RPCs of this server."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from restante.v1 import (
    admin_pb2,
    batch_pb2,
    content_pb2,
    directory_pb2,
    folder_pb2,
    job_pb2,
    mailbox_pb2,
    message_pb2,
    methods,
    session_pb2,
    submission_pb2,
    sync_pb2,
    transport_pb2,
)
from restante.v1 import session_pb2 as v1
from restante.v1.session_pb2 import Scope
from restante_process.config import Limits
from restante_server.api.engine import access, batch, execute, results
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers, every
from restante_server.api.services import append, convert, pages, watcher

handlers = Handlers()

VERSION: Final = version("restante")
FILES: Final = (
    admin_pb2,
    batch_pb2,
    content_pb2,
    directory_pb2,
    folder_pb2,
    job_pb2,
    mailbox_pb2,
    message_pb2,
    session_pb2,
    submission_pb2,
    sync_pb2,
    transport_pb2,
)
RPCS: Final = sorted(
    f"{service.name}/{rpc.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods
)
PROVEN: Final = access.identities(
    "imap",
    "pop3",
    "smtp",
    "relay",
    "admin",
    or_sessions=(Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_POP3, Scope.SCOPE_SMTP_SUBMIT),
)


@handlers.direct(methods.GET_SERVER, rule=PROVEN, reads=every)
async def get_server(call: Call, request: v1.GetServerRequest) -> v1.GetServerResponse:
    """See SessionService.GetServer. It answers from memory, without a read of the store."""
    limits = _limits(call.core.settings.limits)
    return v1.GetServerResponse(version=VERSION, epoch=call.core.epoch, limits=limits, rpcs=RPCS)


def _limits(configured: Limits) -> v1.ServerLimits:
    return v1.ServerLimits(
        max_message_octets=configured.max_message_octets,
        max_recipients=configured.max_recipients,
        max_inline_octets=append.INLINE_OCTETS,
        max_page_size=pages.MAX_SIZE,
        default_page_size=pages.DEFAULT_SIZE,
        max_message_ids=convert.MOST_MESSAGE_IDS,
        max_batch_operations=batch.MAX_BATCH_OPERATIONS,
        max_batch_octets=batch.MAX_BATCH_OCTETS,
        max_result_octets=results.MAX_RESULT_OCTETS,
        session_operations=execute.MAX_SESSION_IN_FLIGHT,
        account_operations=configured.account_operations,
        account_streams=configured.account_streams,
        stream_subscriptions=watcher.MAX_SUBSCRIPTIONS,
        account_subscriptions=configured.account_subscriptions,
        account_uploads=configured.account_uploads,
        account_upload_octets=configured.account_upload_octets,
    )
