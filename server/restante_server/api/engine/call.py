"""One call of the API, which a handler receives with the request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import CommitNotReached, DeadlineExceeded, EpochChanged
from restante.v1.types_pb2 import CommitToken
from restante_server.api.engine import access
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.core import Core
from restante_server.api.engine.writes import HandlerWrite, known_answer, once_of, request_id
from restante_server.db.operation import Operation
from restante_server.directory.rights import Claim, Place
from restante_server.store import mailboxes as store_mailboxes

MIN_COMMIT_PAUSE_SECONDS = 0.02
MAX_LONE_RESULT_OCTETS = 2 << 20  # of the response of a call outside of a batch, where it can be cut

R = TypeVar("R")


class ShortRead(NamedTuple):
    """The rest of a handler that has decided on the event loop: one read of few rows, by index."""

    function: Callable[[Connection], Any]


class FindThenWrite(NamedTuple):
    """The rest of a handler that has decided on the event loop: it finds what it writes, and then writes it.

    It may be cancelled while it finds, which has no effects.
    """

    find: Callable[[], Awaitable[Any]]
    write: Callable[[Any], Awaitable[Message]]


class OneWrite(NamedTuple):
    """The rest of a handler that has decided on the event loop: one operation of the write pipeline."""

    operation: Operation[Message]


Response = TypeVar("Response", bound=Message)


@dataclass(eq=False, slots=True)
class Call:
    """One call of one caller. Nobody changes it; `frozen` would double its cost."""

    core: Core
    caller: Caller
    now: int  # when the call arrived, in microseconds since 1970-01-01 UTC
    deadline: float  # a moment of time.monotonic()
    result_octets: int = MAX_LONE_RESULT_OCTETS  # a page of a list ends before it passes this size
    sent: bytes = b""  # fingerprint of the request as sent, if references have filled it: see `writes.once_only`

    def claim(self, mailbox_id: int, folder_id: int = 0) -> Claim:
        """The claim of a request on a mailbox (0: the caller's own), or on one of its folders. Raises as access.named.

        The rights are decided in each transaction, by `Claim.place`.
        """
        return Claim(self.caller.account_id, access.named(self.caller, mailbox_id), folder_id)

    def place(self, tx: Connection, mailbox_id: int, folder_id: int = 0) -> Place:
        """The place that a request names, decided in this transaction. Raises as access.named and rights.decide."""
        return self.claim(mailbox_id, folder_id).place(tx)

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.deadline - time.monotonic()

    async def read(self, function: Callable[[Connection], R]) -> R:
        """Run a function in one read snapshot on a worker thread, within the call's deadline."""
        return await self.core.db.read(function, deadline=self.deadline)

    def operation(
        self,
        request: Message,
        function: Callable[[Connection], Response],
        *,
        claims: tuple[Claim, ...],
        rows: int = 1,
        octets: int = 0,
        contents: frozenset[int] = frozenset(),
    ) -> HandlerWrite[Response]:
        """A handler's write as an operation of the pipeline, which runs once for each request_id.

        `claims` name the mailboxes that it may write; `function` decides them in the transaction. The pipeline may run
        `function` again, like any operation. A request type without a request_id runs each time.
        """
        return HandlerWrite(self.caller.actor, self.now, request, function, claims, rows, octets, contents, self.sent)

    async def write(
        self,
        request: Message,
        function: Callable[[Connection], Response],
        *,
        claims: tuple[Claim, ...],
        rows: int = 1,
        octets: int = 0,
        contents: frozenset[int] = frozenset(),
    ) -> Response:
        """Run an `operation` in the pipeline. The notifier informs watchers after it."""
        operation = self.operation(request, function, claims=claims, rows=rows, octets=octets, contents=contents)
        return await self.core.db.write(operation, deadline=self.deadline)

    async def known_answer(self, request: Message, claims: tuple[Claim, ...]) -> Message | None:
        """The answer that is kept for the request's id; None if it is new, or if the request type has no id.

        Raises RequestIdRequired, RequestIdReused, MailboxNotFound.
        """
        if not request_id(request):
            return None
        once = once_of(request, self.caller.actor, claims, self.now, self.sent)
        known: Message | None = await self.read(partial(known_answer, once=once, claims=claims))
        return known

    async def reach(self, token: CommitToken) -> None:
        """Wait until reads see the commit that a token names (docs/design.md "Read your writes").

        Raises CommitNotReached, EpochChanged, MailboxNotFound.
        """
        if token.epoch != self.core.epoch:
            raise EpochChanged(epoch=self.core.epoch)
        claim = self.claim(token.mailbox_id)

        def look(tx: Connection) -> int:
            return store_mailboxes.change_number(tx, claim.place(tx))

        try:
            while await self.read(look) < token.change_number:
                if self.seconds_left <= MIN_COMMIT_PAUSE_SECONDS:
                    raise CommitNotReached(change_number=token.change_number)
                await asyncio.sleep(MIN_COMMIT_PAUSE_SECONDS)
        except DeadlineExceeded:  # during a read
            raise CommitNotReached(change_number=token.change_number) from None
