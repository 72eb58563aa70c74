"""IDLE: announcements of changes as they happen (RFC 2177)."""

from __future__ import annotations

from dataclasses import dataclass

from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import LOGGED_IN, command, extension
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, OK, Status, continuation

extension("IDLE")


@command("IDLE", state=LOGGED_IN)
@dataclass(frozen=True)
class Idle:
    """Announce changes at once until the client sends DONE. RFC 2177 3."""

    @classmethod
    def parse(cls, p: Parser) -> Idle:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        if s.selected is not None:
            await s.selected.catch_up_if_possible()
        s.client.write(continuation(b"idling"))
        s.announcements.begin_idle()
        try:
            line = await s.client.next_line()
        finally:
            s.announcements.end_idle()
        if s.selected is not None:
            s.selected.follow()  # the announcements before the tagged response must be as of now
        return OK("IDLE completed.") if line.upper() == b"DONE" else BAD("IDLE ended by another line than DONE.")
