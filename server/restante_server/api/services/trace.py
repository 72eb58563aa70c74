"""AdminService: the message trace."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import admin_pb2 as v1
from restante.v1 import methods
from restante.v1.checks_pb2 import MessageChecks
from restante.v1.outcomes_pb2 import OutcomeReason
from restante.v1.submission_pb2 import RecipientState
from restante_mail.envelope.outcome_reasons import reason_of
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.api.services.queue_selectors import spellings
from restante_server.api.services.submission import NO_LIMIT
from restante_server.transport import oversight
from restante_server.transport.oversight import Event, History, Wanted

handlers = Handlers()


@handlers.read(methods.TRACE_MESSAGES, rule=administrators, slow=True)
def trace_messages(tx: Connection, call: Call, request: v1.TraceMessagesRequest) -> v1.TraceMessagesResponse:
    """See AdminService.TraceMessages."""
    term = request.WhichOneof("term")
    if term and not getattr(request, term):
        raise InvalidArgument(field=term, problem="must not be empty")
    if term == "transport_id":
        return v1.TraceMessagesResponse(traces=map(_trace, oversight.by_id(tx, request.transport_id)))
    wanted = _wanted(request)
    page = pages.Page.asked(f"trace {wanted}", request, call.result_octets)
    (number,) = page.key
    found = oversight.latest(tx, wanted, pages.number(number) if number else NO_LIMIT, page.most)
    answer = v1.TraceMessagesResponse()
    return page.fill(answer, answer.traces, found, _trace, lambda last: (str(last.transport_id),))


def _wanted(request: v1.TraceMessagesRequest) -> Wanted:
    from_, before = (
        convert.microseconds(getattr(request, name), name) if request.HasField(name) else None
        for name in ("accepted_from", "accepted_before")
    )
    return Wanted(
        internet_message_id=request.internet_message_id,
        addresses=spellings(request.address, "address") if request.address else (),
        senders=spellings(request.sender, "sender") if request.HasField("sender") else (),
        recipients=spellings(request.recipient, "recipient") if request.recipient else (),
        accepted_from=from_,
        accepted_before=before,
    )


def _trace(history: History) -> v1.MessageTrace:
    return v1.MessageTrace(
        transport_id=history.transport_id,
        accepted_at=convert.timestamp(history.accepted_at),
        reverse_path=history.reverse_path,
        internet_message_id=history.internet_message_id,
        size_octets=history.size_octets,
        source=history.source,
        events=map(_event, history.events),
        checks=MessageChecks.FromString(history.checks) if history.checks else None,
    )


def _event(event: Event) -> v1.TraceEvent:
    status, _, diagnostic = event.detail.partition(" ")
    return v1.TraceEvent(
        happened_at=convert.timestamp(event.happened_at),
        recipient_id=event.recipient_id,
        forward_path=event.forward_path,
        state=RecipientState.ValueType(int(event.state or 0)),
        detail=event.detail,
        reason=OutcomeReason.ValueType(reason_of(status, diagnostic)),
    )
