"""EXPUNGE and UID EXPUNGE (RFC 3501 6.4.3; RFC 4315 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.v1 import message_pb2, methods
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status
from restante_gateways.imap.grammar.sets import SequenceSet
from restante_gateways.imap.table import SELECTED, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


@command("EXPUNGE", "UID EXPUNGE", state=SELECTED, capability="UIDPLUS")
@dataclass(frozen=True)
class Expunge:
    """Remove what is marked deleted: everywhere, or among the UIDs given (RFC 4315 2.1)."""

    messages: SequenceSet | None

    @classmethod
    def parse(cls, p: Parser) -> Expunge:
        messages = p.sp().sequence_set() if p.uid else None
        p.end()
        return cls(messages)

    async def run(self, s: Session) -> Status:
        view = s.view
        if view.read_only:
            return NO("The folder is open to read only.", b"CANNOT")
        spans = [(0, view.count)] if self.messages is None else view.spans(self.messages, uid=True)
        if not spans or not view.count or not await s.any_deleted():
            return OK("Nothing to remove.")
        deleted = await s.call(
            methods.DELETE_MESSAGES,
            message_pb2.DeleteMessagesRequest(
                messages=s.message_set(spans),
                mode=message_pb2.DELETE_MODE_SOFT,
                only_flagged_deleted=True,
                changes_since=s.changes_since(spans),
            ),
            follow=False,
        )
        await s.absorb(deleted.changes, deleted.commit)
        return OK("Removed.")
