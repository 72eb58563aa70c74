"""TransportService.AcceptMessage, and the steps that it shares with the stream Accept: envelope and acceptance."""

from __future__ import annotations

import hashlib
import time
from functools import partial

from restante.errors import InvalidArgument, RecipientNotFound, RequestIdRequired, TooManyRecipients
from restante.v1 import methods
from restante.v1.transport_pb2 import AcceptBegin, AcceptEnd, AcceptMessageRequest, AcceptMessageResponse
from restante_mail.authentication.results import Checks
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.engine.writes import REQUEST_ID_OCTETS, once_only
from restante_server.api.services.envelopes import envelope_of, require_trace_field
from restante_server.directory.lookup import Resolution, resolve_many
from restante_server.transport.acceptance import accepted, plan_recipients
from restante_server.transport.inbound.intake import Arrived, Intake
from restante_server.transport.records import Envelope
from restante_server.transport.results import results_of
from restante_server.transport.settings import MAX_ACCEPT_RECIPIENTS
from restante_server.transport.take import TakeMail

handlers = Handlers()

MAX_CONTENT_OCTETS = 256 << 10  # of one call; a batch has at most 1 MiB


@handlers.direct(methods.ACCEPT_MESSAGE, rule=access.identities("smtp"))
async def accept_message(call: Call, request: AcceptMessageRequest) -> AcceptMessageResponse:
    """See TransportService.AcceptMessage."""
    envelope = judged(call, request.start)
    checks = checked(request)
    content = request.content
    if len(content) > MAX_CONTENT_OCTETS:
        problem = f"must have at most {MAX_CONTENT_OCTETS} octets; Accept takes a larger message"
        raise InvalidArgument(field="content", problem=problem)
    intake = Intake(call.core.contents, call.core.transport.settings)
    try:
        await intake.feed(content)
        arrived = await intake.finish()
    except BaseException:
        intake.abandon()
        raise
    return AcceptMessageResponse(transport_id=await take(call, request.start, envelope, arrived, checks))


def judged(call: Call, begin: AcceptBegin) -> Envelope:
    """The envelope of an acceptance.

    Raises RequestIdRequired, TooManyRecipients, RecipientNotFound, InvalidAddress, InvalidArgument.
    """
    if len(begin.request_id) != REQUEST_ID_OCTETS:
        raise RequestIdRequired
    limit = min(MAX_ACCEPT_RECIPIENTS, call.core.transport.settings.max_recipients)
    if len(begin.recipients) > limit:
        raise TooManyRecipients(limit=limit)
    if not begin.recipients:
        raise RecipientNotFound
    require_trace_field(begin.trace_field)
    return envelope_of(begin.reverse_path, begin.recipients, begin.options)


def checked(end: AcceptMessageRequest | AcceptEnd) -> Checks | None:
    """The results of the gateway's checks; None if it has made none. Raises InvalidArgument."""
    return results_of(end.checks) if end.HasField("checks") else None


async def take(call: Call, begin: AcceptBegin, envelope: Envelope, arrived: Arrived, checks: Checks | None) -> int:
    """Take responsibility for a message that has arrived; return its id in queue and trace once it is durable.

    `begin` with the size of the content is the request that its id stands for, in whatever pieces the content came.
    Raises RecipientNotFound, MailLoop, RequestIdReused and the errors of a write.
    """
    transport = call.core.transport
    try:
        resolutions = await _resolve(call, [recipient.forward_path for recipient in envelope.recipients])
        planned = plan_recipients(envelope, resolutions, arrived)
    except BaseException:
        call.core.contents.forget(arrived.staged)
        raise
    now = time.time_ns() // 1_000
    incoming = accepted(envelope, planned, arrived, trace_field=begin.trace_field, source=begin.client_address, now=now)
    once = once_only(begin, call.caller.actor, 0, now)
    digest = hashlib.sha256(once.fingerprint + str(arrived.staged.size_octets).encode()).digest()
    mail = TakeMail(transport.settings, incoming, once._replace(fingerprint=digest))
    return (await transport.take(mail)).transport_id


async def _resolve(call: Call, paths: list[str]) -> list[Resolution]:
    """Resolve forward-paths, from memory if RCPT has just resolved all of them and the directory has not changed."""
    recipients = call.core.recipients
    known = [recipients.get(path) for path in paths]
    if None not in known:
        return [found.resolution for found in known if found is not None]
    generation = recipients.generation
    resolutions: list[Resolution] = await call.core.short_read(partial(resolve_many, wanted=paths))
    for found in resolutions:
        recipients.keep(generation, found)
    return resolutions
