"""The table of RPCs. A handler is a function with a decorator of its module's `Handlers`.

Importing a module registers nothing: `app` passes the `Handlers` of every service to the `Registry` of its core.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.methods import Method
from restante_server.api.engine.access import Rule
from restante_server.api.engine.call import Call, FindThenWrite, OneWrite, ShortRead
from restante_server.directory.rights import Claim

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Found = TypeVar("Found")
Streamer = TypeVar("Streamer", bound=Callable[..., AsyncIterator[Any] | Awaitable[Any]])

Claims = Callable[[Call, Any], tuple[Claim, ...]]
Estimate = Callable[[Any], int]
InTransaction = Callable[[Connection, Call, Request], Response]
WithFound = Callable[[Connection, Call, Request, Found], Response]
OnLoop = Callable[[Call, Request], Awaitable[Response]]
Decided = Message | ShortRead | OneWrite | FindThenWrite | Callable[[], Awaitable[Message]]
AtOnce = Callable[[Call, Request], Decided]
Condition = Callable[[Any], bool]  # on a request
Known = Callable[[Call, Any, tuple[Claim, ...]], Awaitable[Message | None]]


class HandlerKind(Enum):
    """The ways to run a unary handler."""

    READ = "in a read snapshot, on a worker thread, together with other short reads"
    SLOW_READ = "in a read snapshot of its own"
    WRITE = "in the write pipeline"
    DIRECT = "on the event loop, as a coroutine"
    DECIDED = "on the event loop, which decides how it goes on"


@dataclass(frozen=True)
class Handler:
    """The handler of one unary RPC."""

    method: Method[Any, Any]
    kind: HandlerKind
    rule: Rule
    run: Callable[..., Any]
    claims: Claims  # on the mailboxes that the request names
    rows: Estimate
    octets: Estimate
    reads: Condition | None = None  # which requests of a DIRECT or DECIDED handler have no effects
    find: Callable[[Call, Any], Any] | None = None  # see `Handlers.write_found`
    known: Known = Call.known_answer  # the first answer to a repeated request
    short: Condition | None = None  # see `Handlers.read`

    def only_reads(self, request: Any) -> bool:
        """Whether the call may be cancelled at any moment and its response withheld."""
        if self.reads is not None:
            return self.reads(request)
        return self.kind in (HandlerKind.READ, HandlerKind.SLOW_READ)

    @cached_property
    def has_min_commit(self) -> bool:
        """Whether the request has the field min_commit."""
        return "min_commit" in self.method.request.DESCRIPTOR.fields_by_name

    @cached_property
    def path(self) -> str:
        """The path of the call on the wire."""
        return self.method.path


@dataclass(frozen=True, slots=True)
class Streaming:
    """The handler of one streaming RPC.

    `run(call, request or iterator of requests)` is an async generator, or a coroutine if only the request streams.
    """

    service: str
    name: str
    rule: Rule
    run: Callable[..., Any]
    own_end: bool = False  # the handler itself ends the stream when the caller's session ends
    ends_with_token: bool = False  # the stream ends with the token that began it, even if the session is renewed


def _claims(method: Method[Any, Any]) -> Claims:
    """The claims of a request, by the fields that its type has."""
    fields = method.request.DESCRIPTOR.fields_by_name
    if "target_mailbox_id" in fields:
        return _two_mailboxes
    return _one_mailbox if "mailbox_id" in fields else _no_mailbox


def _no_mailbox(_call: Call, _request: Any) -> tuple[Claim, ...]:
    return ()


def _one_mailbox(call: Call, request: Any) -> tuple[Claim, ...]:
    return (call.claim(request.mailbox_id),)


def _two_mailboxes(call: Call, request: Any) -> tuple[Claim, ...]:
    source = call.claim(request.mailbox_id)
    target = call.claim(request.target_mailbox_id) if request.target_mailbox_id else source
    return (source,) if target == source else (source, target)


def few(_: Any) -> bool:
    """Every request reads few rows: see `Handlers.read`."""
    return True


def every(_: Any) -> bool:
    """No request has effects: see `Handlers.direct`."""
    return True


def _small(_: Any) -> int:
    return 1


def _nothing(_: Any) -> int:
    return 0


class Handlers:
    """The handlers of one module."""

    def __init__(self) -> None:
        self.unary: list[Handler] = []
        self.streams: list[Streaming] = []

    def read(
        self, method: Method[Request, Response], *, rule: Rule, slow: bool = False, short: Condition | None = None
    ) -> Callable[[InTransaction[Request, Response]], InTransaction[Request, Response]]:
        """Register a handler that only reads. `slow`: it does not share its thread hop and snapshot with others.

        `short` tells which requests read few rows, by index, and decode little: the event loop itself may run those
        (`db.loop_reads`), and waits for them. `few`: all of them.
        """

        def decorate(run: InTransaction[Request, Response]) -> InTransaction[Request, Response]:
            kind = HandlerKind.SLOW_READ if slow else HandlerKind.READ
            self.unary.append(Handler(method, kind, rule, run, _claims(method), _small, _nothing, short=short))
            return run

        return decorate

    def write(
        self,
        method: Method[Request, Response],
        *,
        rule: Rule,
        rows: Callable[[Request], int] = _small,
        octets: Callable[[Request], int] = _nothing,
    ) -> Callable[[InTransaction[Request, Response]], InTransaction[Request, Response]]:
        """Register a handler that writes: one operation of the pipeline, which may run again.

        It may write the mailboxes that its request names. `rows` and `octets` estimate the amount.
        """

        def decorate(run: InTransaction[Request, Response]) -> InTransaction[Request, Response]:
            self.unary.append(Handler(method, HandlerKind.WRITE, rule, run, _claims(method), rows, octets))
            return run

        return decorate

    def write_found(
        self,
        method: Method[Request, Response],
        *,
        rule: Rule,
        find: Callable[[Call, Request], Found | Callable[[], Awaitable[Found]]],
        rows: Callable[[Found], int],
    ) -> Callable[[WithFound[Request, Found, Response]], WithFound[Request, Found, Response]]:
        """Register a handler that writes what `find` has found before: it runs as `run(tx, call, request, found)`.

        `find(call, request)` returns that, or a function to await for it. The function has no effects, is awaited
        within the call's deadline and may be cancelled, and runs only if the request's id is not known yet. `rows`
        estimates the amount.
        """

        def decorate(run: WithFound[Request, Found, Response]) -> WithFound[Request, Found, Response]:
            self.unary.append(Handler(method, HandlerKind.WRITE, rule, run, _claims(method), rows, _nothing, find=find))
            return run

        return decorate

    def direct(
        self,
        method: Method[Request, Response],
        *,
        rule: Rule,
        reads: Condition | None = None,
        known: Known = Call.known_answer,
    ) -> Callable[[OnLoop[Request, Response]], OnLoop[Request, Response]]:
        """Register a coroutine on the event loop, which reads and writes with `call.read` and `call.write`.

        `reads` tells which requests have no effects and may be cancelled halfway (`every`: all). `known(call, request,
        claims)` finds the first answer to a repeated request, None if its id is new, where that is more than the answer
        that `call.write` has kept.
        """

        def decorate(run: OnLoop[Request, Response]) -> OnLoop[Request, Response]:
            self.unary.append(
                Handler(
                    method, HandlerKind.DIRECT, rule, run, _claims(method), _small, _nothing, reads=reads, known=known
                )
            )
            return run

        return decorate

    def decided(
        self, method: Method[Request, Response], *, rule: Rule, reads: Condition | None = None
    ) -> Callable[[AtOnce[Request]], AtOnce[Request]]:
        """Register a function on the event loop that decides at once how a request goes on.

        It returns the response, a ShortRead, a OneWrite, a FindThenWrite, or a function to await. `reads`: as `direct`.
        """

        def decorate(run: AtOnce[Request]) -> AtOnce[Request]:
            self.unary.append(
                Handler(method, HandlerKind.DECIDED, rule, run, _claims(method), _small, _nothing, reads=reads)
            )
            return run

        return decorate

    def stream(
        self, service: str, name: str, *, rule: Rule, own_end: bool = False, ends_with_token: bool = False
    ) -> Callable[[Streamer], Streamer]:
        """Register a streaming RPC, such as `stream("FolderService", "OpenFolder", rule=...)`.

        The stream ends with its caller's session, by SESSION_REVOKED or SESSION_EXPIRED. `own_end`: the handler itself
        ends the stream then. `ends_with_token`: the stream ends with the token that began it, even if the session is
        renewed.
        """

        def decorate(run: Streamer) -> Streamer:
            self.streams.append(Streaming(service, name, rule, run, own_end, ends_with_token))
            return run

        return decorate


class Registry:
    """Every RPC that a core serves."""

    def __init__(self, services: Iterable[Handlers]) -> None:
        """Raises ValueError when an RPC has two handlers."""
        self.unary: dict[str, Handler] = {}  # by field of Operation.request
        self.streams: dict[tuple[str, str], Streaming] = {}  # by service and name
        for handlers in services:
            for handler in handlers.unary:
                if self.unary.setdefault(handler.method.field, handler) is not handler:
                    raise ValueError(f"{handler.method.path} has two handlers")
            for streaming in handlers.streams:
                if self.streams.setdefault((streaming.service, streaming.name), streaming) is not streaming:
                    raise ValueError(f"{streaming.service}/{streaming.name} has two handlers")
