"""Operations that wait for others of their request message, because references name these (`references`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from restante.errors import DeadlineExceeded, InvalidArgument, OperationReferenceFailed
from restante_server.api.engine import references
from restante_server.api.engine.batch import MAX_BATCH_OCTETS, Batch
from restante_server.api.engine.flights import Flight, Need
from restante_server.api.engine.registry import Handler
from restante_server.api.engine.results import MAX_RESULT_OCTETS
from restante_server.api.engine.writes import fingerprint, has_request_id

MAX_REFERENCES = 16  # of one operation


def connect(flights: Sequence[Flight], handlers: Mapping[str, Handler]) -> None:
    """Connect the operations of one request message with those that their references name.

    A faulty reference becomes its operation's `problem`.
    """
    earlier: dict[int, Flight] = {}
    for flight in flights:
        try:
            flight.needs = _needs(flight, earlier, flights, handlers)
        except InvalidArgument as error:
            flight.problem = error
        for need in flight.needs:
            need.flight.outcome = need.flight.outcome or asyncio.get_running_loop().create_future()
        if flight.needs:
            flight.batch.reserve(len(flight.needs) * MAX_RESULT_OCTETS)
            if has_request_id(flight.request.DESCRIPTOR) and flight.request.request_id:
                flight.sent = _as_sent(flight)
        earlier[flight.operation_id] = flight


def _as_sent(flight: Flight) -> bytes:
    paths = [
        (need.flight.field, reference.response_field, reference.request_field)
        for need, reference in zip(flight.needs, flight.references, strict=True)
    ]
    return fingerprint(flight.request, paths)


def _needs(
    flight: Flight, earlier: Mapping[int, Flight], flights: Sequence[Flight], handlers: Mapping[str, Handler]
) -> tuple[Need, ...]:
    if len(flight.references) > MAX_REFERENCES:
        raise InvalidArgument(field="references", problem=f"more than {MAX_REFERENCES}")
    if flight.field not in handlers:
        return ()  # the operation itself is refused
    needs: list[Need] = []
    for index, reference in enumerate(flight.references):
        named = earlier.get(reference.operation_id)
        if named is None or named.token != flight.token:
            problem = _why_not(reference.operation_id, named, flight, flights)
            raise InvalidArgument(field=f"references[{index}].operation_id", problem=problem)
        if named.field not in handlers:
            raise InvalidArgument(
                field=f"references[{index}].operation_id", problem=f"operation {reference.operation_id} is unknown"
            )
        response, request = handlers[named.field].method.response, handlers[flight.field].method.request
        try:
            link = references.link(
                response.DESCRIPTOR, reference.response_field, request.DESCRIPTOR, reference.request_field
            )
        except InvalidArgument as error:
            raise _at(index, error) from None
        needs.append(Need(index, named, link))
    return tuple(needs)


def _why_not(operation_id: int, named: Flight | None, flight: Flight, flights: Sequence[Flight]) -> str:
    """The reason why a reference cannot name this operation."""
    if named is not None:
        return f"operation {operation_id} belongs to another session"
    if operation_id == flight.operation_id:
        return f"operation {operation_id} is this one"
    if any(other.operation_id == operation_id for other in flights):
        return f"operation {operation_id} comes behind this one"
    return f"no operation {operation_id} in this request message: send both in one"


async def fill(flight: Flight) -> None:
    """Wait until the operations that a flight refers to have answered, and fill its request with their fields.

    Raises OperationReferenceFailed, InvalidArgument, DeadlineExceeded.
    """
    responses, batch = await _responses(flight), flight.batch
    for need, response in zip(flight.needs, responses, strict=True):
        _require_room(batch)
        before = flight.request.ByteSize()
        try:
            references.fill(flight.request, need.link, response)
        except InvalidArgument as error:
            raise _at(need.position, error) from None
        batch.filled_octets += flight.request.ByteSize() - before
    _require_room(batch)
    flight.needs = ()


def _require_room(batch: Batch) -> None:
    """Raises InvalidArgument once the copied fields have made a request message too large.

    It is asked before each reference, so that no more than one passes the limit: each may copy a whole response.
    """
    if batch.octets + batch.filled_octets > MAX_BATCH_OCTETS:
        problem = f"the request message has more than {MAX_BATCH_OCTETS} octets with the fields that they copy"
        raise InvalidArgument(field="references", problem=problem)


async def _responses(flight: Flight) -> list[Message]:
    """The response that each reference reads."""
    found: list[Message] = []
    try:
        async with asyncio.timeout(max(0.0, flight.deadline - time.monotonic())):
            for need in flight.needs:
                assert need.flight.outcome is not None  # made by `connect`
                response = await asyncio.shield(need.flight.outcome)
                if response is None:
                    raise OperationReferenceFailed(operation_id=need.flight.operation_id)
                found.append(response)
    except TimeoutError:
        raise DeadlineExceeded from None
    return found


def _at(position: int, error: InvalidArgument) -> InvalidArgument:
    """The error with the place of its reference in the operation."""
    return InvalidArgument(field=f"references[{position}].{error.metadata['field']}", problem=error.metadata["problem"])
