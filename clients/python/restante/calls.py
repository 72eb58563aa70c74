"""Calls of one user, or of a process: request ids, deadlines, safe retries, read-your-writes, pages."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message

from restante import errors
from restante.link import CoreLink
from restante.methods import Method, Request, Response
from restante.retry import is_repeatable, is_temporary
from restante.session import UserSession
from restante.v1.types_pb2 import CommitToken

T = TypeVar("T")

REQUEST_ID_OCTETS = 16
TIME_OCTETS = 6  # of a request id: milliseconds since 1970
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def request_id() -> bytes:
    """A fresh request id. Each repetition of a call carries the id of its first attempt.

    It begins with the time, as a UUID of version 7 does, and has 80 random bits. The core appends
    ascending ids to the end of its index; random ones would each write a page of it.
    """
    began = time.time_ns() // 1_000_000
    return began.to_bytes(TIME_OCTETS, "big") + secrets.token_bytes(REQUEST_ID_OCTETS - TIME_OCTETS)


class Calls:
    """Runs any RPC by its method, as one session or, without a session, as the process itself.

    `timeout_seconds` is the deadline of a call that gives none; it includes the retries.
    """

    def __init__(self, link: CoreLink, session: UserSession | None = None, *, timeout_seconds: float = 30.0) -> None:
        self.link, self.timeout_seconds = link, timeout_seconds
        self._session = session
        self._commits: dict[int, CommitToken] = {}

    @property
    def session(self) -> UserSession:
        """The session. Raises InvalidSession when there is none."""
        if self._session is None:
            raise errors.InvalidSession
        return self._session

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
        independent: bool = False,
    ) -> Response:
        """The response of any unary RPC of the contract (`restante.v1.methods`).

        Fills in a missing request_id, and sets `min_commit` to the latest write that this object has seen. Repeats a
        call after a temporary failure until the deadline, with the delay that the server asks for. A response that is
        too large for an operation is asked for again, by a call of its own. Raises the class of `restante.errors` for
        the reason.
        """
        completed, own_commit = self.completed(request)

        async def attempt(seconds: float) -> Response:
            until = time.monotonic() + seconds
            try:
                return await self.link.execute(
                    method, completed, session=self.token, timeout=seconds, independent=independent
                )
            except errors.ResultTooLarge as error:
                if error.metadata.get("rpc") != f"{method.service}/{method.name}":
                    raise  # a streaming RPC, or a response beyond every limit
            left = until - time.monotonic()
            return await self.link.execute_alone(method, completed, session=self.token, timeout=left)

        response = await self.repeated(
            attempt, partial(may_repeat, method, completed), [completed] if own_commit else [], timeout
        )
        self.remember(response)
        return response

    async def repeated(
        self,
        attempt: Callable[[float], Awaitable[T]],
        repeatable: Callable[[errors.RestanteError], bool],
        committed: list[Any],
        timeout: float | None,
    ) -> T:
        """What an attempt returns, repeated after a failure that is `repeatable`, until the deadline.

        `attempt` gets the seconds that are left. `committed` are the requests that have min_commit from `completed`:
        when the store was restored, they lose it, and the list is cleared. An expired session is renewed once.
        """
        deadline = time.monotonic() + (self.timeout_seconds if timeout is None else timeout)
        pause, renewed = FIRST_PAUSE_SECONDS, False
        while True:
            try:
                return await attempt(deadline - time.monotonic())
            except errors.EpochChanged:
                if not committed:
                    raise
                self.forget()
                for request in committed:
                    request.ClearField("min_commit")
                committed.clear()
            except errors.SessionExpired:
                if renewed or self._session is None:
                    raise
                renewed = True
                await self._session.renew()
            except errors.RestanteError as error:
                delay = max(pause * random.uniform(0.5, 1.0), error.retry_seconds or 0.0)
                if not repeatable(error) or time.monotonic() + delay >= deadline:
                    raise
                await asyncio.sleep(delay)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def pages(
        self, method: Method[Request, Response], request: Request, *, timeout: float | None = None
    ) -> AsyncIterator[Response]:
        """Every page of a list."""
        wanted: Any = type(request)()
        wanted.CopyFrom(request)
        while True:
            page: Any = await self.execute(method, wanted, timeout=timeout)
            yield page
            if not page.next_page_token:
                return
            wanted.page_token = page.next_page_token

    async def resumed(
        self,
        open_stream: Callable[[], AsyncIterator[T]],
        *,
        patience_seconds: float | None = None,
    ) -> AsyncGenerator[T, None]:
        """Messages of a server stream that is opened again when it breaks.

        `open_stream` begins after the last message that was yielded. Raises the last error when every attempt of
        `patience_seconds` (default: `timeout_seconds`) has failed at once.
        """
        patience = self.timeout_seconds if patience_seconds is None else patience_seconds
        failing_since: float | None = None
        pause, renewed = FIRST_PAUSE_SECONDS, False
        while True:
            began = time.monotonic()
            try:
                async with aclosing(open_stream()) as stream:  # type: ignore[type-var]
                    async for message in stream:
                        failing_since, pause, renewed = None, FIRST_PAUSE_SECONDS, False
                        yield message
                return
            except errors.SessionExpired:
                if renewed or self._session is None:
                    raise
                renewed = True
                await self._session.renew()
            except errors.RestanteError as error:
                now = time.monotonic()
                if failing_since is None or now - began > LONGEST_PAUSE_SECONDS:  # it was open, without a message
                    failing_since, pause = now, FIRST_PAUSE_SECONDS
                delay = max(pause * random.uniform(0.5, 1.0), error.retry_seconds or 0.0)
                if not is_temporary(error) or now + delay >= failing_since + patience:
                    raise
                await asyncio.sleep(delay)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def min_commit(self, mailbox_id: int = 0) -> CommitToken | None:
        """The latest write to a mailbox that this object has seen."""
        if not mailbox_id and self._session is not None:
            mailbox_id = self._session.info.mailbox_id
        return self._commits.get(mailbox_id)

    @property
    def token(self) -> bytes:
        """The session's present token, empty without a session."""
        return self._session.token if self._session is not None else b""

    def completed(self, request: Request) -> tuple[Request, bool]:
        """The request with its request_id and min_commit, and whether min_commit was added; a copy when either was."""
        fields = request.DESCRIPTOR.fields_by_name
        any_request: Any = request
        needs_id = "request_id" in fields and not any_request.request_id
        commit = None
        if "min_commit" in fields and not any_request.HasField("min_commit"):
            commit = self.min_commit(any_request.mailbox_id)
        if not needs_id and commit is None:
            return request, False
        completed: Any = type(request)()
        completed.CopyFrom(request)
        if needs_id:
            completed.request_id = request_id()
        if commit is not None:
            completed.min_commit.CopyFrom(commit)
        return completed, commit is not None

    def forget(self) -> None:
        """Forget all commits: the store was restored, and earlier writes may be gone."""
        self._commits.clear()

    def remember(self, response: Message) -> None:
        """Keep the commit token of a write, so that later reads see the write."""
        if "commit" not in response.DESCRIPTOR.fields_by_name or not response.HasField("commit"):
            return
        commit: CommitToken = response.commit  # type: ignore[attr-defined]
        known = self._commits.get(commit.mailbox_id)
        if known is None or (commit.epoch, commit.change_number) > (known.epoch, known.change_number):
            self._commits[commit.mailbox_id] = commit


def may_repeat(method: Method[Any, Any], request: Any, error: errors.RestanteError) -> bool:
    """Whether the failure is temporary and a repetition is safe."""
    return is_repeatable(method, request) and may_pass(error)


def may_pass(error: errors.RestanteError) -> bool:
    """Whether a call that failed so may succeed a moment later."""
    return is_temporary(error) or isinstance(error, errors.TooManyOperations)
