"""Mailboxes that the user may open."""

from __future__ import annotations

from collections.abc import AsyncIterator

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.mailbox_pb2 import GetMailboxRequest, ListMailboxesRequest, Mailbox

PAGE_SIZE = 500


class Mailboxes:
    """`mailbox_id` 0 is the user's own mailbox, here and in every other call."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, mailbox_id: int = 0) -> Mailbox:
        """The mailbox with its quota. Raises MailboxNotFound."""
        return (await self._calls.execute(methods.GET_MAILBOX, GetMailboxRequest(mailbox_id=mailbox_id))).mailbox

    async def list(self) -> AsyncIterator[Mailbox]:
        """Every mailbox that the user may open."""
        async for page in self._calls.pages(methods.LIST_MAILBOXES, ListMailboxesRequest(page_size=PAGE_SIZE)):
            for mailbox in page.mailboxes:
                yield mailbox
