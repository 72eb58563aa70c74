"""IDLE: be told of changes as they happen (RFC 2177)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, OK, Status, continuation
from restante_gateways.imap.table import LOGGED_IN, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


@command("IDLE", state=LOGGED_IN, capability="IDLE")
@dataclass(frozen=True)
class Idle:
    """Push until the client says DONE. RFC 2177 3."""

    @classmethod
    def parse(cls, p: Parser) -> Idle:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        await s.catch_up_if_possible()
        s.write(continuation(b"idling"))
        s.begin_pushing()
        try:
            line = await s.next_line()
        finally:
            s.end_pushing()
        return OK("Idle no more.") if line.upper() == b"DONE" else BAD("DONE expected.")
