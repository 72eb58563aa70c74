"""A handler's write as an operation of the pipeline: it runs once for each request_id and wakes watchers afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import RequestIdRequired
from restante.v1 import methods
from restante_server.store import changes, requests

Response = TypeVar("Response", bound=Message)

REQUEST_ID_OCTETS = 16
DAY = 24 * 3600 * 1_000_000  # microseconds
RESPONSES: dict[str, type[Any]] = {known.request.DESCRIPTOR.name: known.response for known in methods.ALL}
KEPT = {"SubmitMessageRequest": 7 * DAY}  # how long a request id is remembered, where not for one day


def request_id(request: Message) -> bytes:
    """The request's id, or b"" when its type has none.

    Raises RequestIdRequired when the type has one and it is not 16 octets.
    """
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return b""
    value = bytes(getattr(request, "request_id"))  # noqa: B009 - a field that only some messages have
    if len(value) != REQUEST_ID_OCTETS:
        raise RequestIdRequired
    return value


def fingerprint(request: Message) -> bytes:
    """A digest of all that the request asks for."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


@dataclass(frozen=True, slots=True)
class Written(Generic[Response]):
    """The outcome of a write."""

    response: Response
    touched: dict[int, changes.Touched]  # by mailbox


@dataclass(frozen=True, slots=True)
class HandlerWrite(Generic[Response]):
    """One write of one call. See db.operation.Operation."""

    actor: str  # the caller's name in request ids
    now: int  # microseconds since 1970-01-01 UTC, when the call came
    changed: Callable[[dict[int, changes.Touched]], object]  # called after a commit that changed mailboxes
    request: Message
    function: Callable[[Connection], Response]
    mailboxes: frozenset[int]
    rows: int = 1
    octets: int = 0
    contents: frozenset[int] = frozenset()

    def run(self, tx: Connection) -> Written[Response]:
        """The response of `function`, or the one remembered under the same request id."""
        changes.forget_touched(tx)
        identity = request_id(self.request)
        if not identity:
            response = self.function(tx)
            return Written(response, changes.take_touched(tx))
        key = requests.Key(min(self.mailboxes, default=0), self.actor, identity)
        method = self.request.DESCRIPTOR.name
        digest = fingerprint(self.request)
        remembered = requests.find(tx, key, method, digest)
        if remembered is not None:
            return Written(RESPONSES[method].FromString(remembered), {})
        response = self.function(tx)
        expires_at = self.now + KEPT.get(method, DAY)
        requests.remember(tx, key, method, digest, response.SerializeToString(), expires_at)
        return Written(response, changes.take_touched(tx))

    def after_commit(self, written: Written[Response]) -> None:
        """Wake the watchers."""
        if written.touched:
            self.changed(written.touched)
