"""Selectors of the contract as the store's, and the texts that identify them in tokens."""

from __future__ import annotations

from google.protobuf.message import Message

from restante.errors import InvalidArgument
from restante.v1.queue_pb2 import QueueSelector
from restante_mail.envelope.paths import BadPath, parse_path
from restante_server.api.services import convert
from restante_server.directory import addresses
from restante_server.transport.selection import Selector
from restante_server.transport.states import WAITING, State

MOST_ADDRESS = 1_024  # characters


def spellings(address: str, field: str) -> tuple[str, ...]:
    """The spellings under which an address may stand in an envelope; "" is the null path. Raises InvalidArgument."""
    if len(address) > MOST_ADDRESS:
        raise InvalidArgument(field=field, problem=f"must be at most {MOST_ADDRESS} characters")
    if not address or address == "<>":
        return ("",)
    local_part, at, domain = address.rpartition("@")
    found = {address, f"{local_part}{at}{domain.lower()}"}
    try:
        found.add(str(parse_path(address)))
    except BadPath:  # it may stand in an envelope all the same, as a bare postmaster does
        pass
    return tuple(sorted(found))


def selector(given: QueueSelector, *, may_be_all: bool = False) -> Selector:
    """The store's selector. Raises InvalidArgument for one that selects everything without saying so."""
    limited = given.WhichOneof("_sender") or any(
        (given.transport_id, given.recipient, given.destination, given.states, given.HasField("accepted_before"))
    )
    if not (limited or given.all or may_be_all):
        raise InvalidArgument(field="selector", problem="must have a condition, or all")
    if limited and given.all:
        raise InvalidArgument(field="selector.all", problem="excludes the other conditions")
    if unknown := [state for state in given.states if state not in set(map(int, WAITING))]:
        raise InvalidArgument(field="selector.states", problem=f"state {unknown[0]} is not one of waiting recipients")
    before = None
    if given.HasField("accepted_before"):
        before = convert.microseconds(given.accepted_before, "selector.accepted_before")
    return Selector(
        transport_id=given.transport_id or None,
        senders=spellings(given.sender, "selector.sender") if given.HasField("sender") else (),
        recipients=spellings(given.recipient, "selector.recipient") if given.recipient else (),
        destination=destination(given.destination),
        states=frozenset(map(State, given.states)) or WAITING,
        accepted_before=before,
    )


def destination(name: str) -> str:
    """A destination in the queue's spelling. Raises InvalidArgument."""
    return addresses.ascii_domain(name, literal=True) if name else ""


def identity(name: str, request: Message) -> str:
    """The text that identifies an operation and its selector in a token."""
    return f"{name} {request.SerializeToString(deterministic=True).hex()}"
