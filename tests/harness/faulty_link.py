"""A link to the real core that records its calls and fails in ways that a test names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, cast

from restante import errors
from restante.execute import Followed
from restante.link import CoreLink
from restante.methods import Method, Request, Response
from restante.v1 import content_pb2, folder_pb2, message_pb2
from restante.v1.message_pb2 import MessageRows, SectionRest, StreamMessagesResponse
from restante.v1.sync_pb2 import ResetReason, WatchResponse
from restante.v1.transport_pb2 import AcceptBegin, AcceptRequest, AcceptResponse
from restante.watch import Watching, WatchStream

EVERY = "*"
FOREVER = 1 << 40


class Held:
    """Calls of one method that wait for `release`. `begun` and `cancelled` are set by the first such call."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self._released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def release(self) -> None:
        """Let the calls go on."""
        self._released.set()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await self._released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class FaultyWatch(WatchStream):
    """A watch that may lose notices. `heard` is the highest change number that the core has announced."""

    lossy = False  # True: every notice is lost on its way

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard = 0

    @property
    def subscriptions(self) -> tuple[Watching, ...]:
        """Those that are open now."""
        return tuple(self._watching.values())

    def _receive(self, response: WatchResponse) -> None:
        if not self.lossy:
            super()._receive(response)
        self.heard = max(self.heard, response.folder.change_number, response.mailbox.change_number)

    async def hear(self, change_number: int, seconds: float = 5.0) -> None:
        """Wait until the notice of a change has come, or has been lost on its way."""
        await until(lambda: self.heard >= change_number, seconds)

    def reset(self, reason: ResetReason.ValueType) -> None:
        """End every subscription as the core does when it cannot go on."""
        for watching in self.subscriptions:
            self._receive(WatchResponse(subscription_id=watching.subscription_id, reset_reason=reason))


class FaultyLink(CoreLink):
    """`calls` has the names of the methods in the order of their calls, those that fail included."""

    watch: FaultyWatch

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.watch = FaultyWatch(self._open_watch, lambda: bool(self.session()))
        self.calls: list[str] = []
        self.requests: list[Any] = []  # of these calls; an upload has none
        self.contexts: list[tuple[bytes, str]] = []  # (session token, client address) of the calls on Execute
        self.begun: list[AcceptBegin] = []  # acceptances
        self.aborted = 0  # acceptances
        self.credit_withheld = False  # True: no acceptance gets room for more octets
        self.commit_refusal: errors.RestanteError | None = None  # instead of the core's answer to an acceptance
        self._lost_answers: dict[str, int] = {}
        self.open_streams = 0  # of messages
        self.breaks = 0
        self._cut_octets: int | None = None
        self._stream_delay_seconds = 0.0
        self._refusals: dict[str, tuple[errors.RestanteError, int]] = {}
        self._before: dict[str, Callable[[], Awaitable[None]]] = {}
        self._break_after: int | None = None
        self._breaks_once, self._then = False, cast("errors.RestanteError | None", None)

    # --- faults ---

    def refuse(self, error: errors.RestanteError, method: str = EVERY, *, times: int = FOREVER) -> None:
        """Answer the next calls of a method, or of all, with an error instead of sending them, until `heal`."""
        self._refusals[method] = (error, times)

    def heal(self) -> None:
        """End the refusals and the breaks."""
        self._refusals.clear()
        self._break_after = None

    def before(self, method: str, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` before each call of a method is sent."""
        self._before[method] = action

    def hold(self, method: str) -> Held:
        """Make the calls of a method wait before they are sent."""
        held = Held()
        self.before(method, held)
        return held

    def break_streams_after(
        self, responses: int, *, once: bool = False, then: errors.RestanteError | None = None
    ) -> None:
        """Break each stream of messages, or only the next, after so many responses. `then` refuses all later ones."""
        self._break_after, self._breaks_once, self._then = responses, once, then

    def cut_streams_to(self, octets: int) -> None:
        """Divide the responses of streams of messages: one message in each, and at most `octets` of a section."""
        self._cut_octets = octets

    def slow_streams(self, seconds: float) -> None:
        """Wait before each response of a stream of messages."""
        self._stream_delay_seconds = seconds

    def lose_answers(self, method: str, times: int = FOREVER) -> None:
        """Let the core execute the next calls of a method, and lose its answers."""
        self._lost_answers[method] = times

    def loses_answer(self, method: str) -> bool:
        """Whether the answer that has just come is lost."""
        left = self._lost_answers.get(method, 0)
        self._lost_answers[method] = max(0, left - 1)
        return left > 0

    def calls_since(self) -> list[str]:
        """The calls since the last check."""
        calls, self.calls = self.calls, []
        return calls

    # --- CoreLink ---

    async def _begin(self, method: str, request: object = None) -> None:
        self.calls.append(method)
        self.requests.append(request)
        for name in (method, EVERY):
            error, times = self._refusals.get(name, (None, 0))
            if error is not None and times:
                self._refusals[name] = (error, times - 1)
                raise error
        if method in self._before:
            await self._before[method]()

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
        followed: Followed | None = None,
    ) -> Response:
        """As CoreLink does."""
        self.contexts.append((session, client_address))
        await self._begin(method.name, request)
        answer = await super().execute(
            method,
            request,
            session=session,
            client_address=client_address,
            timeout=timeout,
            independent=independent,
            followed=followed,
        )
        if self.loses_answer(method.name):
            raise errors.Draining("The answer was lost.")
        return answer

    def _open_accept(self) -> Any:
        return FaultyAcceptCall(self, super()._open_accept())

    async def open_folder(
        self, request: folder_pb2.OpenFolderRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        """As CoreLink does."""
        await self._begin("OpenFolder", request)
        stream = super().open_folder(request, session=session, client_address=client_address)
        async with aclosing(stream):  # type: ignore[type-var]  # a generator
            async for response in stream:
                yield response

    async def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """As CoreLink does, until the stream breaks."""
        await self._begin("StreamMessages", request)
        stream = super().stream_messages(request, session=session, client_address=client_address)
        sent = 0
        self.open_streams += 1
        try:
            async with aclosing(stream):  # type: ignore[type-var]  # a generator
                async for whole in stream:
                    for response in [whole] if self._cut_octets is None else _cut(whole, self._cut_octets):
                        await asyncio.sleep(self._stream_delay_seconds)
                        self._break_at(sent)
                        sent += 1
                        yield response
        finally:
            self.open_streams -= 1

    def _break_at(self, sent: int) -> None:
        if sent != self._break_after:
            return
        self.breaks += 1
        if self._then is not None:
            self.refuse(self._then, "StreamMessages")
        if self._breaks_once:
            self._break_after = None
        raise errors.Draining("The stream broke.")

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        """As CoreLink does."""
        await self._begin("UploadContent")
        return await super().upload(kind, chunks, session=session, client_address=client_address)


class FaultyAcceptCall:
    """The call of an Accept stream, with the faults of its link."""

    def __init__(self, link: FaultyLink, call: Any) -> None:
        self._link, self._call = link, call

    async def write(self, request: AcceptRequest) -> None:
        """Record and send a request."""
        if request.HasField("start"):
            self._link.begun.append(request.start)
        self._link.aborted += request.abort
        await self._call.write(request)

    async def read(self) -> Any:
        """The next response that is not lost. Raises Draining, after which the stream is over."""
        while True:
            response = await self._call.read()
            if not isinstance(response, AcceptResponse) or not (response.accepted or response.granted_octets):
                return response
            if response.granted_octets and self._link.credit_withheld:
                continue
            if response.accepted and self._link.loses_answer("Accept"):
                raise errors.Draining("The answer was lost.")
            if response.accepted and self._link.commit_refusal is not None:
                refusal = errors.to_status(self._link.commit_refusal)
                return AcceptResponse(acceptance_id=response.acceptance_id, status=refusal)
            return response

    def cancel(self) -> None:
        """End the stream."""
        self._call.cancel()


def _cut(whole: StreamMessagesResponse, octets: int) -> Iterator[StreamMessagesResponse]:
    """The same rows or rest in smaller responses. Serves requests for sections alone, without columns."""
    if whole.HasField("rest"):
        yield from _pieces(whole.rest, 0, octets)
        return
    rows = whole.rows
    for index, message_id in enumerate(rows.message_ids):
        alone = MessageRows(message_ids=[message_id], uids=rows.uids[index : index + 1])
        for cells in rows.sections:
            alone.sections.add(octets=[cells.octets[index][:octets]], total_octets=[cells.total_octets[index]])
        yield StreamMessagesResponse(rows=alone)
        for number, cells in enumerate(rows.sections):
            rest = SectionRest(message_id=message_id, section_index=number, octets=cells.octets[index])
            yield from _pieces(rest, octets, octets)


def _pieces(rest: SectionRest, start: int, size: int) -> Iterator[StreamMessagesResponse]:
    for at in range(start, len(rest.octets), size):
        piece = SectionRest(
            message_id=rest.message_id,
            section_index=rest.section_index,
            offset_octets=rest.offset_octets + at,
            octets=rest.octets[at : at + size],
        )
        yield StreamMessagesResponse(rest=piece)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until a condition holds. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
