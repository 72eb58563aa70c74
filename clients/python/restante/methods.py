"""The description of a unary RPC, for code that handles any RPC: the dispatcher, the Execute multiplexer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """One unary RPC of the contract. `restante.v1.methods` has a constant for each."""

    service: str  # such as "FolderService"
    name: str  # such as "GetFolder"
    request: type[Request]
    response: type[Response]
    field: str  # its field in Operation.request and OperationResult.response, such as "get_folder"

    @property
    def path(self) -> str:
        """The path of the call on the wire, such as "/restante.v1.FolderService/GetFolder"."""
        return f"/restante.v1.{self.service}/{self.name}"
