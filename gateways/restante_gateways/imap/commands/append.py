"""APPEND: add a message to a folder (RFC 3501 6.3.11; APPENDUID RFC 4315 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, Status
from restante_gateways.imap.table import ANY, LOGGED_IN, command, offer

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

_MESSAGE = re.compile(rb"\{([0-9]{1,20})\+?\}\Z")

offer("LITERAL+", offered=ANY)


@command("APPEND", state=LOGGED_IN)
@dataclass(frozen=True)
class Append:
    """The head of an APPEND, up to the message's literal, whose octets are streamed to the core as they come.

    A date keeps its zone (RFC 3501 6.3.11); without one the message arrives now.
    """

    name: str
    flags: Flags
    received_at: datetime | None
    size_octets: int

    @classmethod
    def parse(cls, p: Parser) -> Append:
        name = p.sp().mailbox_name()
        p.sp()
        flags = Flags()
        if p.sees(b"("):
            flags = p.flag_list()
            p.sp()
        received_at = None
        if p.sees(b'"'):
            received_at = p.date_time()
            p.sp()
        return cls(name, flags, received_at, int(p.match(_MESSAGE, "literal")[1]))

    async def run(self, s: Session) -> Status:
        return BAD("A message comes as a literal.")  # with one, the session carries it out while it is read
