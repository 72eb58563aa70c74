"""The table of RPCs. A handler is a plain function with a decorator; the dispatcher knows no RPC by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.methods import Method
from restante.v1 import methods
from restante_server.api.engine.access import Rule
from restante_server.api.engine.caller import Call

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

Mailboxes = Callable[[Call, Any], frozenset[int]]
Estimate = Callable[[Any], int]


_WITH_MIN_COMMIT = frozenset(known for known in methods.ALL if "min_commit" in known.request.DESCRIPTOR.fields_by_name)


class Kind(Enum):
    """How a unary handler is run."""

    READ = "in a read snapshot, on a worker thread, together with other short reads"
    SLOW_READ = "in a read snapshot of its own"
    WRITE = "in the write pipeline"
    DIRECT = "on the event loop, as a coroutine"


@dataclass(frozen=True, slots=True)
class Handler:
    """One unary RPC."""

    method: Method[Any, Any]
    kind: Kind
    rule: Rule
    run: Callable[..., Any]
    mailboxes: Mailboxes
    rows: Estimate
    octets: Estimate
    reads: bool = False  # a coroutine that changes nothing that matters when it is given up or repeated

    @property
    def only_reads(self) -> bool:
        """It may be given up at any moment, and its answer withheld."""
        return self.reads or self.kind in (Kind.READ, Kind.SLOW_READ)

    @property
    def has_min_commit(self) -> bool:
        """The request may ask to see a commit."""
        return self.method in _WITH_MIN_COMMIT


@dataclass(frozen=True, slots=True)
class Streaming:
    """One streaming RPC. `run(call, request or iterator of requests)` is an async generator, or a coroutine when only
    the request streams."""

    service: str
    name: str
    rule: Rule
    run: Callable[..., Any]
    own_end: bool = False  # it ends by itself when the session of its caller does
    ends_with_token: bool = False  # it does not go on when the session is renewed


UNARY: dict[str, Handler] = {}  # by field of Operation.request
STREAMS: dict[tuple[str, str], Streaming] = {}  # by service and name


def _own_mailbox(call: Call, request: Any) -> frozenset[int]:
    return frozenset({call.mailbox_id(request.mailbox_id)})


def _small(_: Any) -> int:
    return 1


def _nothing(_: Any) -> int:
    return 0


def _register(handler: Handler) -> None:
    if handler.method.field in UNARY:
        raise ValueError(f"{handler.method.path} has two handlers")
    UNARY[handler.method.field] = handler


def read(
    method: Method[Request, Response], *, rule: Rule, slow: bool = False
) -> Callable[
    [Callable[[Connection, Call, Request], Response]],
    Callable[[Connection, Call, Request], Response],
]:
    """A handler that only reads. `slow` keeps it apart from short reads, which share a thread hop and a snapshot."""

    def decorate(
        run: Callable[[Connection, Call, Request], Response],
    ) -> Callable[[Connection, Call, Request], Response]:
        _register(Handler(method, Kind.SLOW_READ if slow else Kind.READ, rule, run, _own_mailbox, _small, _nothing))
        return run

    return decorate


def write(
    method: Method[Request, Response],
    *,
    rule: Rule,
    mailboxes: Callable[[Call, Request], frozenset[int]] = _own_mailbox,
    rows: Callable[[Request], int] = _small,
    octets: Callable[[Request], int] = _nothing,
) -> Callable[
    [Callable[[Connection, Call, Request], Response]],
    Callable[[Connection, Call, Request], Response],
]:
    """A handler that writes: one operation of the pipeline, which may run again.

    `mailboxes` names every mailbox it may write, by default the request's; `rows` and `octets` say about how much.
    """

    def decorate(
        run: Callable[[Connection, Call, Request], Response],
    ) -> Callable[[Connection, Call, Request], Response]:
        _register(Handler(method, Kind.WRITE, rule, run, mailboxes, rows, octets))
        return run

    return decorate


def direct(
    method: Method[Request, Response], *, rule: Rule, reads: bool = False
) -> Callable[[Callable[[Call, Request], Awaitable[Response]]], Callable[[Call, Request], Awaitable[Response]]]:
    """A coroutine on the event loop, which reads and writes by `call.read` and `call.write`.

    `reads`: it is a read, if one in several steps, and may be given up halfway.
    """

    def decorate(run: Callable[[Call, Request], Awaitable[Response]]) -> Callable[[Call, Request], Awaitable[Response]]:
        _register(Handler(method, Kind.DIRECT, rule, run, _own_mailbox, _small, _nothing, reads))
        return run

    return decorate


Streamer = TypeVar("Streamer", bound=Callable[..., AsyncIterator[Any] | Awaitable[Any]])


def stream(
    service: str, name: str, *, rule: Rule, own_end: bool = False, ends_with_token: bool = False
) -> Callable[[Streamer], Streamer]:
    """A streaming RPC, such as `stream("FolderService", "OpenFolder", rule=...)`.

    When the session of its caller ends the stream does too, with SESSION_REVOKED or SESSION_EXPIRED; `own_end`: it sees
    to that itself. `ends_with_token`: also when the session has been renewed before its token was past its time.
    """

    def decorate(run: Streamer) -> Streamer:
        if (service, name) in STREAMS:
            raise ValueError(f"{service}/{name} has two handlers")
        STREAMS[service, name] = Streaming(service, name, rule, run, own_end, ends_with_token)
        return run

    return decorate
