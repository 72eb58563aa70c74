"""AdminService: the queue and the message trace."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import admin_pb2 as v1
from restante.v1 import methods
from restante.v1.checks_pb2 import MessageChecks
from restante.v1.submission_pb2 import RecipientState
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.api.services.submission import NO_LIMIT, recipient
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.directory import addresses
from restante_server.transport import oversight
from restante_server.transport.oversight import Event, History, QueueKey, Waiting

handlers = Handlers()


@handlers.read(methods.LIST_QUEUE, rule=administrators)
def list_queue(tx: Connection, call: Call, request: v1.ListQueueRequest) -> v1.ListQueueResponse:
    """See AdminService.ListQueue."""
    page = pages.Page.asked(f"queue {request.destination}", request, call.result_octets, 3)
    after = QueueKey(*map(pages.number, page.key)) if any(page.key) else None
    destination = addresses.ascii_domain(request.destination, literal=True) if request.destination else ""
    found = oversight.waiting(tx, destination, after, page.most)
    answer = v1.ListQueueResponse()
    return page.fill(answer, answer.entries, found, _entry, _place)


def _place(waiting: Waiting) -> tuple[str, str, str]:
    row = waiting.row
    return str(row.next_attempt_at), str(row.transport_id), str(row.recipient_id)


def _entry(waiting: Waiting) -> v1.QueueEntry:
    return v1.QueueEntry(
        transport_id=waiting.row.transport_id,
        recipient_id=waiting.row.recipient_id,
        reverse_path=waiting.reverse_path,
        destination=waiting.row.destination,
        size_octets=waiting.size_octets,
        accepted_at=convert.timestamp(waiting.accepted_at),
        recipient=recipient(waiting.row),
    )


@handlers.direct(methods.RETRY_QUEUED, rule=administrators)
async def retry_queued(call: Call, request: v1.RetryQueuedRequest) -> v1.RetryQueuedResponse:
    """See AdminService.RetryQueued."""
    one = request.WhichOneof("recipients") == "transport_id"
    if one:
        await call.core.db.read(oversight.require, request.transport_id)
        some = [request.transport_id]
    elif request.all:
        some = await call.core.db.read(oversight.some_pending, 0)
    else:
        raise InvalidArgument(field="recipients", problem="must be a transport_id or all")
    count = 0
    while some:
        ids = some

        def retry(tx: Connection, ids: list[int] = ids) -> int:
            return oversight.retry(tx, ids, now_microseconds(tx))

        count += await call.core.db.write(Write(retry, rows=len(ids)), deadline=call.deadline)
        some = [] if one else await call.core.db.read(oversight.some_pending, ids[-1])
    return v1.RetryQueuedResponse(recipient_count=count)


@handlers.direct(methods.REMOVE_QUEUED, rule=administrators)
async def remove_queued(call: Call, request: v1.RemoveQueuedRequest) -> v1.RemoveQueuedResponse:
    """See AdminService.RemoveQueued."""
    transport = call.core.transport

    def remove(tx: Connection) -> int:
        return oversight.remove(tx, transport.settings, request.transport_id, request.silently, now_microseconds(tx))

    write = Write(remove, rows=10)
    return v1.RemoveQueuedResponse(recipient_count=await call.core.db.write(write, deadline=call.deadline))


@handlers.read(methods.TRACE_MESSAGES, rule=administrators, slow=True)
def trace_messages(tx: Connection, call: Call, request: v1.TraceMessagesRequest) -> v1.TraceMessagesResponse:
    """See AdminService.TraceMessages."""
    term = request.WhichOneof("term")
    if term and not getattr(request, term):
        raise InvalidArgument(field=term, problem="must not be empty")
    if term == "transport_id":
        return v1.TraceMessagesResponse(traces=map(_trace, oversight.by_id(tx, request.transport_id)))
    of = f"trace {request.internet_message_id} {request.address}"
    page = pages.Page.asked(of, request, call.result_octets)
    (number,) = page.key
    before = pages.number(number) if number else NO_LIMIT
    if term == "internet_message_id":
        found = oversight.by_message_id(tx, request.internet_message_id, before, page.most)
    elif term == "address":
        found = oversight.by_address(tx, request.address, before, page.most)
    else:
        found = oversight.latest(tx, before, page.most)
    answer = v1.TraceMessagesResponse()
    return page.fill(answer, answer.traces, found, _trace, lambda last: (str(last.transport_id),))


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
    return v1.TraceEvent(
        happened_at=convert.timestamp(event.happened_at),
        recipient_id=event.recipient_id,
        forward_path=event.forward_path,
        state=RecipientState.ValueType(int(event.state)),
        detail=event.detail,
    )
