"""FETCH (RFC 3501 6.4.5; CHANGEDSINCE RFC 7162 3.1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante_gateways.imap.fetching import VIEW_FACTS, fetch
from restante_gateways.imap.grammar.fetch import FetchFact, FetchItem, fetch_items
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import BAD, OK, Status
from restante_gateways.imap.grammar.sets import SequenceSet
from restante_gateways.imap.table import SELECTED, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


@command("FETCH", "UID FETCH", state=SELECTED, holds_numbers=True)
@dataclass(frozen=True)
class Fetch:
    """Read facts and octets of messages. What the view knows costs no call to the core; the rest is streamed."""

    messages: SequenceSet
    uid: bool
    items: tuple[FetchItem, ...]
    changed_since: int | None = None

    @classmethod
    def parse(cls, p: Parser) -> Fetch:
        messages = p.sp().sequence_set()
        items = fetch_items(p.sp())
        changed_since = None
        if not p.at_end:
            if p.sp().expect(b"(").word() != b"CHANGEDSINCE":
                raise ParseError("CHANGEDSINCE expected")
            changed_since = p.sp().change_number()
            p.expect(b")")
            if FetchFact.MODSEQ not in items:
                items += (FetchFact.MODSEQ,)  # RFC 7162 3.1.4.1
        p.end()
        if p.uid and FetchFact.UID not in items:
            items = (FetchFact.UID, *items)  # RFC 3501 6.4.8
        return cls(messages, p.uid, items, changed_since)

    async def run(self, s: Session) -> Status:
        view = s.view
        if self.changed_since is not None or VIEW_FACTS.issuperset(self.items):
            await s.catch_up()  # what the view knows is what is told
        spans = view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("No such message.")
        if FetchFact.MODSEQ in self.items:
            s.enable_condstore()
        if self.changed_since is not None:
            spans = view.changed_since(spans, self.changed_since)
        if spans:
            await fetch(s, spans, self.items)
        return OK("Fetched.")
