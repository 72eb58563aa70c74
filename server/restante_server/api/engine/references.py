"""References: fields of one operation's response that become fields of a later operation's request. *Pure.*

A path is checked against the message types alone, when its operation arrives. It is then read from the response and
written into the request without further checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from restante.errors import InvalidArgument
from restante.v1.types_pb2 import IdRange

MAX_PATH_CHARACTERS = 256
MAX_EXPANDED_IDS = 1_000  # of runs that become ids, in one reference
_INT64 = FieldDescriptor.TYPE_INT64

Path = tuple[FieldDescriptor, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A checked reference."""

    source: Path  # in the response
    target: Path  # in the request
    expands: bool  # runs of ids become ids


@lru_cache(maxsize=1_024)
def link(response: Descriptor, response_field: str, request: Descriptor, request_field: str) -> Link:
    """The link between a field of a response type and one of a request type.

    Raises InvalidArgument whose field is "response_field" or "request_field".
    """
    source = _path(response, response_field, "response_field")
    target = _path(request, request_field, "request_field")
    if any(field.is_repeated for field in target[:-1]):
        raise InvalidArgument(field="request_field", problem=f"{request_field} passes through a repeated field")
    given, wanted = source[-1], target[-1]
    many = any(field.is_repeated for field in source)
    if many and not wanted.is_repeated:
        problem = f"{request_field} has one value, and {response_field} has any number"
        raise InvalidArgument(field="request_field", problem=problem)
    expands = given.message_type is IdRange.DESCRIPTOR and wanted.type == _INT64 and wanted.is_repeated
    if not expands and not _same_type(given, wanted):
        problem = f"{request_field} is {_kind(wanted)}, and {response_field} is {_kind(given)}"
        raise InvalidArgument(field="request_field", problem=problem)
    return Link(source, target, expands)


def fill(request: Message, known: Link, response: Message) -> None:
    """Copy the values of a link's source into its target: appended to a repeated field, in place of a single value.

    A value that is absent from the response leaves the request as it is, but the message around a repeated target is
    present then: a set of no messages differs from no set. Raises InvalidArgument with the field "request_field" for
    more than MAX_EXPANDED_IDS.
    """
    values = _values(response, known.source)
    if known.expands:
        if sum(max(0, run.last - run.first + 1) for run in values) > MAX_EXPANDED_IDS:
            raise InvalidArgument(field="request_field", problem=f"the runs hold more than {MAX_EXPANDED_IDS} ids")
        values = [number for run in values for number in range(run.first, run.last + 1)]
    last = known.target[-1]
    if not values and not last.is_repeated:
        return
    place: Any = request
    for field in known.target[:-1]:
        place = getattr(place, field.name)
    place.SetInParent()
    if last.is_repeated:
        getattr(place, last.name).extend(values)
    elif last.message_type is not None:
        getattr(place, last.name).CopyFrom(values[0])
    else:
        setattr(place, last.name, values[0])


def _path(start: Descriptor, text: str, which: str) -> Path:
    if not text or len(text) > MAX_PATH_CHARACTERS:
        raise InvalidArgument(field=which, problem=f"is no path of 1 to {MAX_PATH_CHARACTERS} characters")
    path: list[FieldDescriptor] = []
    message: Descriptor | None = start
    for name in text.split("."):
        field = message.fields_by_name.get(name) if message is not None else None
        if field is None:
            place = message.name if message is not None else path[-1].name
            raise InvalidArgument(field=which, problem=f"{place} has no field {name!r}")
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            raise InvalidArgument(field=which, problem=f"{name} is a map")
        path.append(field)
    return tuple(path)


def _values(response: Message, path: Path) -> list[Any]:
    """Every value at the end of a path; a repeated message on the way contributes those of each element."""
    found: list[Any] = [response]
    for field in path:
        if field.is_repeated:
            found = [value for message in found for value in getattr(message, field.name)]
        else:
            present = (message for message in found if not field.has_presence or message.HasField(field.name))
            found = [getattr(message, field.name) for message in present]
    return found


def _same_type(given: FieldDescriptor, wanted: FieldDescriptor) -> bool:
    return (given.type, given.message_type, given.enum_type) == (wanted.type, wanted.message_type, wanted.enum_type)


_SCALARS = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in ("TYPE_INT64", "TYPE_INT32", "TYPE_STRING", "TYPE_BYTES", "TYPE_BOOL", "TYPE_DOUBLE", "TYPE_FLOAT")
}


def _kind(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    return named.name if named is not None else _SCALARS.get(field.type, "another type")
