"""TransportService.AcceptMessage, and the steps that it shares with the stream Accept: envelope and acceptance."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection

from restante.errors import InvalidArgument, RecipientNotFound, RequestIdRequired, TooManyRecipients
from restante.v1 import methods
from restante.v1.transport_pb2 import AcceptBegin, AcceptEnd, AcceptMessageRequest, AcceptMessageResponse
from restante_mail.authentication.results import Checks
from restante_mail.header.authres import comparable_id
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.engine.writes import REQUEST_ID_OCTETS, once_only
from restante_server.api.services import dmarc_counts, judgement, lmtp
from restante_server.api.services.envelopes import envelope_of, require_trace_field
from restante_server.api.services.lmtp import Refusals
from restante_server.db.clock import now_microseconds
from restante_server.directory.lookup import Resolution
from restante_server.store.requests import Request, find
from restante_server.transport.acceptance import Judged, accepted, checked, plan_recipients
from restante_server.transport.enqueue import Taken
from restante_server.transport.forwarding import is_rewritten
from restante_server.transport.inbound.intake import Arrived, Intake
from restante_server.transport.records import Envelope
from restante_server.transport.results import results_of
from restante_server.transport.settings import MAX_ACCEPT_RECIPIENTS
from restante_server.transport.take import TakeMail, decode

handlers = Handlers()

MAX_CONTENT_OCTETS = 256 << 10  # of one call; a batch has at most 1 MiB


@handlers.direct(methods.ACCEPT_MESSAGE, rule=access.identities("smtp"))
async def accept_message(call: Call, request: AcceptMessageRequest) -> AcceptMessageResponse:
    """See TransportService.AcceptMessage."""
    envelope = envelope_in(call, request.start)
    checks = results_in(request)
    content = request.content
    if len(content) > MAX_CONTENT_OCTETS:
        problem = f"must have at most {MAX_CONTENT_OCTETS} octets; Accept takes a larger message"
        raise InvalidArgument(field="content", problem=problem)
    intake = intake_of(call, request.start)
    try:
        await intake.feed(content)
        arrived = await intake.finish()
    except BaseException:
        intake.abandon()
        raise
    answer = await take(call, request.start, envelope, arrived, checks)
    return AcceptMessageResponse(
        transport_id=answer.taken.transport_id, verdicts=lmtp.verdicts(request.start, answer.taken, answer.refusals)
    )


def envelope_in(call: Call, begin: AcceptBegin) -> Envelope:
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


def results_in(end: AcceptMessageRequest | AcceptEnd) -> Checks | None:
    """The results of the gateway's checks; None if it has made none. Raises InvalidArgument."""
    return replace(results_of(end.checks), checked_by="") if end.HasField("checks") else None


def intake_of(call: Call, begin: AcceptBegin) -> Intake:
    """The reader of a content. By LMTP it keeps and reads the results of trusted servers. Raises StoreFull."""
    settings = call.core.transport.settings
    trusted = settings.trusted_authserv_ids
    if not begin.lmtp:  # nobody else may claim a trusted server's results (RFC 8601 5)
        return Intake(call.core.contents, settings, (settings.hostname, *trusted))
    kept = {comparable_id(name) for name in trusted}
    forged = [] if comparable_id(settings.hostname) in kept else [settings.hostname]
    return Intake(call.core.contents, settings, forged, kept)


class Answer(NamedTuple):
    """The outcome of an acceptance. Its message has no id when every recipient was refused, by LMTP."""

    taken: Taken
    refusals: Refusals  # the errors of this call; a repetition may have others than `taken` has from the first one


async def take(call: Call, begin: AcceptBegin, envelope: Envelope, arrived: Arrived, checks: Checks | None) -> Answer:
    """Take responsibility for a message that has arrived; returns once it is durable.

    Without `checks` those count that a trusted server has reported in the header. `begin` with the size of the content
    is the request that its id stands for, in whatever pieces the content came.
    Raises RecipientNotFound, MailLoop, MessageRefused, RequestIdReused and the errors of a write.
    """
    transport, now = call.core.transport, time.time_ns() // 1_000
    once = once_only(begin, call.caller.actor, 0, now)
    digest = hashlib.sha256(once.fingerprint + str(arrived.staged.size_octets).encode()).digest()
    once = once._replace(fingerprint=digest)
    checks = checks or arrived.reported
    try:
        refusals = await lmtp.refusals_of(call, envelope, arrived.staged.size_octets) if begin.lmtp else {}
        message = Judged(lmtp.remaining(envelope, refusals))
        if checks is not None and message.envelope.recipients:
            message = await judgement.judge(call, message.envelope, arrived, checks, each=begin.lmtp)
            refusals = lmtp.joined(envelope, refusals, message.refusals)
        if not message.envelope.recipients:
            return await _refused(call, begin, once, arrived, message, refusals, checks)
        resolutions = await _resolve(call, message.envelope)
        planned = plan_recipients(message.envelope, resolutions, arrived)
    except BaseException:
        call.core.contents.forget(arrived.staged)
        raise
    incoming = accepted(
        message.envelope, planned, arrived, trace_field=begin.trace_field, source=begin.client_address, now=now
    )
    if checks is not None:
        incoming = checked(incoming, checks, message.found, transport.settings.hostname)
    result = await transport.take(TakeMail(transport.settings, incoming, once, lmtp.numbers(refusals)))
    if checks is not None and result.new:
        judgement.count(call, message)
        if not checks.checked_by:  # the server that has checked it reports it
            dmarc_counts.count_accepted(call, begin, message.envelope, arrived, checks)
    return Answer(result.taken, refusals)


async def _refused(
    call: Call,
    begin: AcceptBegin,
    once: Request,
    arrived: Arrived,
    message: Judged,
    refusals: Refusals,
    checks: Checks | None,
) -> Answer:
    """The answer when nobody may have the message now: the first answer, if this is a repetition of an acceptance.

    Raises MessageRefused, but by LMTP.
    """
    kept = await call.core.short_read(partial(find, request=once))
    if kept is None:
        if checks is not None and message.refusals and call.core.counted_refusals.is_new(once.key):
            judgement.count(call, message)
            if not checks.checked_by:
                dmarc_counts.count_refused(call, begin, message.envelope, arrived, checks)
        if not begin.lmtp:
            raise message.refusals[0]
    call.core.contents.forget(arrived.staged)
    return Answer(Taken(0, refused=lmtp.numbers(refusals)) if kept is None else decode(kept), refusals)


async def _resolve(call: Call, envelope: Envelope) -> list[Resolution]:
    """Resolve forward-paths, from memory if RCPT has just resolved all of them and the directory has not changed."""
    recipients, paths = call.core.recipients, [recipient.forward_path for recipient in envelope.recipients]
    known = [recipients.get(path) for path in paths]
    if None not in known:
        return [found.resolution for found in known if found is not None]
    generation = recipients.generation
    forwarding, reverse_path = call.core.transport.forwarding, envelope.reverse_path

    def resolve(tx: Connection) -> list[Resolution]:
        return forwarding.resolve(tx, paths, reverse_path, now_microseconds(tx))

    resolutions = await call.core.short_read(resolve)
    for found in resolutions:
        if not is_rewritten(found.address):
            recipients.keep(generation, found)
    return resolutions
