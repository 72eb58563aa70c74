"""The contract by names: the request and response types of a method, and messages in a runner's encoding."""

from __future__ import annotations

import base64
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

import restante.v1
from tests.conformance.values import ScenarioError

ENCODINGS = ("json", "protobuf")


class BadAnswer(Exception):
    """A runner wrote a value that is no message of the type."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC."""

    request: type[Message]
    response: type[Message]
    streams_requests: bool
    streams_responses: bool


def _rpcs() -> dict[str, Rpc]:
    found = {}
    for module in pkgutil.iter_modules(restante.v1.__path__):
        file = getattr(importlib.import_module(f"restante.v1.{module.name}"), "DESCRIPTOR", None)
        for service in file.services_by_name.values() if file is not None else ():
            for method in service.methods:
                found[f"{service.name}/{method.name}"] = Rpc(
                    message_factory.GetMessageClass(method.input_type),
                    message_factory.GetMessageClass(method.output_type),
                    method.client_streaming,
                    method.server_streaming,
                )
    return found


RPCS: Mapping[str, Rpc] = _rpcs()
"""All RPCs of the contract by name, such as "FolderService/GetFolder"."""


def rpc(name: str) -> Rpc:
    """An RPC by name. Raises ScenarioError."""
    if name not in RPCS:
        raise ScenarioError(f"there is no RPC {name}")
    return RPCS[name]


def message_type(name: str) -> type[Message]:
    """The type of a message by its name within the package."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"restante.v1.{name}"))


def written(kind: type[Message], value: Any, encoding: str) -> Any:
    """A message of the scenario in a runner's encoding. Raises ScenarioError when it is no message of this type."""
    try:
        message = json_format.ParseDict(value, kind())
    except json_format.ParseError as error:
        raise ScenarioError(f"{kind.DESCRIPTOR.name}: {error}") from None
    if encoding == "protobuf":
        return base64.b64encode(message.SerializeToString()).decode()
    return json_format.MessageToDict(message)


def canonical(kind: type[Message], value: Any, encoding: str) -> Any:
    """A runner's message in the canonical form for comparison. Raises BadAnswer."""
    try:
        if encoding == "protobuf":
            message = kind.FromString(base64.b64decode(value, validate=True))
        else:
            message = json_format.ParseDict(value, kind())
    except (json_format.ParseError, DecodeError, ValueError, TypeError) as error:
        raise BadAnswer(f"no {kind.DESCRIPTOR.name}: {error}") from None
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
