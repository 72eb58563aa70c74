"""The queue of an installation: mail that waits, which administrators list, hold, release, retry and remove."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

from restante.calls import Calls
from restante.methods import Method
from restante.v1 import methods
from restante.v1.queue_pb2 import (
    GetQueuedMessageRequest,
    GetQueuedMessageResponse,
    HoldQueuedRequest,
    ListQueueRequest,
    ListStandingHoldsRequest,
    QueuedPart,
    QueueEntry,
    QueueSelector,
    QueueStep,
    ReleaseQueuedRequest,
    RemoveQueuedRequest,
    RerouteQueuedRequest,
    RetryQueuedRequest,
    StandingHold,
)

PAGE_SIZE = 500


class Done(NamedTuple):
    """The recipients that an operation has changed, or of a dry run, would change."""

    recipients: int
    leased: int  # selected, but left alone, because a relay attempts them
    holds: int = 0  # standing holds ended


class _Response(Protocol):
    @property
    def step(self) -> QueueStep: ...


class Queue:
    """The queue. Every method raises PermissionDenied for anybody but an administrator.

    Operations on selected recipients raise InvalidArgument for a selector without a condition, and
    TransportMessageNotFound. They go in steps: after an error, a part may be done, and may be done again.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self, selector: QueueSelector | None = None) -> AsyncIterator[QueueEntry]:
        """Selected recipients, by message; all without a selector."""
        request = ListQueueRequest(selector=selector, page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_QUEUE, request):
            for entry in page.entries:
                yield entry

    async def get(self, transport_id: int) -> GetQueuedMessageResponse:
        """A message with its recipients. Raises TransportMessageNotFound."""
        request = GetQueuedMessageRequest(transport_id=transport_id)
        return await self._calls.execute(methods.GET_QUEUED_MESSAGE, request)

    async def header(self, transport_id: int) -> bytes:
        """The header of a message, at most 64 KiB; traced. Raises as `get`, and InvalidArgument once it has left."""
        request = GetQueuedMessageRequest(transport_id=transport_id, part=QueuedPart.QUEUED_PART_HEADER)
        return (await self._calls.execute(methods.GET_QUEUED_MESSAGE, request)).octets

    async def content(self, transport_id: int) -> AsyncIterator[bytes]:
        """The content of a message, in pieces; traced. Raises as `header`."""
        offset, total = 0, 1
        while offset < total:
            request = GetQueuedMessageRequest(
                transport_id=transport_id, part=QueuedPart.QUEUED_PART_CONTENT, offset_octets=offset
            )
            answer = await self._calls.execute(methods.GET_QUEUED_MESSAGE, request)
            offset, total = offset + len(answer.octets), answer.content_octets
            yield answer.octets

    async def hold(self, selector: QueueSelector, *, standing: bool = False, dry_run: bool = False) -> Done:
        """Hold scheduled and pending recipients; `standing`: also those of mail to come."""
        request = HoldQueuedRequest(selector=selector, standing=standing, dry_run=dry_run)
        return await self._all(methods.HOLD_QUEUED, request)

    async def release(self, selector: QueueSelector, *, dry_run: bool = False) -> Done:
        """Release held recipients, and end the standing holds that the selector names."""
        return await self._all(methods.RELEASE_QUEUED, ReleaseQueuedRequest(selector=selector, dry_run=dry_run))

    async def holds(self) -> AsyncIterator[StandingHold]:
        """The standing holds."""
        request = ListStandingHoldsRequest(page_size=PAGE_SIZE)
        async for page in self._calls.pages(methods.LIST_STANDING_HOLDS, request):
            for hold in page.holds:
                yield hold

    async def retry(self, selector: QueueSelector, *, dry_run: bool = False) -> Done:
        """Make pending recipients due now."""
        return await self._all(methods.RETRY_QUEUED, RetryQueuedRequest(selector=selector, dry_run=dry_run))

    async def reroute(self, selector: QueueSelector, *, dry_run: bool = False) -> Done:
        """Resolve waiting recipients anew."""
        return await self._all(methods.REROUTE_QUEUED, RerouteQueuedRequest(selector=selector, dry_run=dry_run))

    async def remove(self, selector: QueueSelector, *, silently: bool = False, dry_run: bool = False) -> Done:
        """End waiting recipients, with a report to the sender unless `silently`."""
        request = RemoveQueuedRequest(selector=selector, silently=silently, dry_run=dry_run)
        return await self._all(methods.REMOVE_QUEUED, request)

    async def _all(self, method: Method[Any, Any], request: Any) -> Done:
        """All steps of an operation."""
        recipients = leased = holds = 0
        while True:
            response: _Response = await self._calls.execute(method, request)
            recipients += response.step.recipient_count
            leased += response.step.leased_count
            holds += getattr(response, "hold_count", 0)
            if not response.step.continue_token:
                return Done(recipients, leased, holds)
            request.continue_token = response.step.continue_token
