"""EXPUNGE and UID EXPUNGE (RFC 3501 6.4.3; RFC 4315 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import SELECTED, command, extension
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status
from restante_gateways.imap.grammar.sets import SequenceSet

extension("UIDPLUS")


@command("EXPUNGE", "UID EXPUNGE", state=SELECTED)
@dataclass(frozen=True)
class Expunge:
    """Remove messages marked \\Deleted: all, or those among the UIDs given (RFC 4315 2.1)."""

    messages: SequenceSet | None

    @classmethod
    def parse(cls, p: Parser) -> Expunge:
        messages = p.sp().sequence_set() if p.uid else None
        p.end()
        return cls(messages)

    async def run(self, s: Session) -> Status:
        folder, view = s.folder, s.folder.view
        if view.read_only:
            return NO("The folder is open read-only; use SELECT to change it.", b"CANNOT")
        spans = [(0, view.count)] if self.messages is None else view.spans(self.messages, uid=True)
        if not spans or not view.count or not await folder.any_deleted():
            return OK("EXPUNGE completed; no message was removed.")
        await folder.absorb(await s.account.messages.delete_marked(folder.messages(spans), folder.changes_since(spans)))
        return OK("EXPUNGE completed.")
