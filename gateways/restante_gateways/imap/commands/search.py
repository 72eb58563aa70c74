"""SEARCH (RFC 3501 6.4.4; ESEARCH RFC 4731; MODSEQ RFC 7162 3.1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante_gateways.imap import searching
from restante_gateways.imap.grammar import encoder, sets
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import OK, Status, untagged
from restante_gateways.imap.grammar.search import return_options, search_keys, uses_change_numbers
from restante_gateways.imap.grammar.search_keys import SearchKey, SearchReturn
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.table import SELECTED, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


@command("SEARCH", "UID SEARCH", state=SELECTED, holds_numbers=True, capability="ESEARCH")
@dataclass(frozen=True)
class Search:
    """Find messages. What the view can tell costs no call to the core."""

    key: SearchKey
    uid: bool
    returns: SearchReturn | None = None  # None: the plain answer

    @classmethod
    def parse(cls, p: Parser) -> Search:
        p.sp()
        returns = None
        if p.octets[p.at : p.at + 8].upper() == b"RETURN (":
            p.at += 7
            returns = return_options(p)
            p.sp()
        return cls(search_keys(p), p.uid, returns)

    async def run(self, s: Session) -> Status:
        if uses_change_numbers(self.key):
            s.enable_condstore()
        spans = await searching.search(s, self.key)
        highest = None
        if spans and uses_change_numbers(self.key):
            highest = s.view.highest_change_number(self._told(spans))
        if self.returns is None:
            s.write(self._plain(s, spans, highest))
        else:
            s.write(self._extended(s, spans, self.returns, highest))
        return OK("Searched.")

    def _told(self, spans: list[Span]) -> list[Span]:
        """The messages whose highest change number is told: those that MIN and MAX name, if nothing else is asked for.

        RFC 7162 3.1.10.
        """
        if self.returns is None or self.returns & (SearchReturn.ALL | SearchReturn.COUNT):
            return spans
        first, last = spans[0][0], spans[-1][1] - 1
        named = [first] if SearchReturn.MIN in self.returns else []
        named += [last] if SearchReturn.MAX in self.returns else []
        return [(at, at + 1) for at in named]

    def _plain(self, s: Session, spans: list[Span], highest: int | None) -> bytes:
        uids = s.view.uids
        if self.uid:
            numbers = (b" %d" % uid for first, stop in spans for uid in uids[first:stop])
        else:
            numbers = (b" %d" % number for first, stop in spans for number in range(first + 1, stop + 1))
        tail = b" (MODSEQ %d)" % highest if highest is not None else b""  # RFC 7162 3.1.5
        return b"* SEARCH" + b"".join(numbers) + tail + b"\r\n"

    def _extended(self, s: Session, spans: list[Span], returns: SearchReturn, highest: int | None) -> bytes:
        """RFC 4731 3.1: without hits no MIN, MAX or ALL, but COUNT 0."""
        uids = s.view.uids
        parts = [b"ESEARCH (TAG %b)" % encoder.string(s.tag)]
        if self.uid:
            parts.append(b"UID")
        if spans:
            first, last = spans[0][0], spans[-1][1] - 1
            if SearchReturn.MIN in returns:
                parts.append(b"MIN %d" % (uids[first] if self.uid else first + 1))
            if SearchReturn.MAX in returns:
                parts.append(b"MAX %d" % (uids[last] if self.uid else last + 1))
            if SearchReturn.ALL in returns:
                if self.uid:
                    found = sets.compress(uid for begin, stop in spans for uid in uids[begin:stop])
                else:
                    found = [(begin + 1, stop) for begin, stop in spans]
                parts.append(b"ALL " + sets.encode_ranges(found))
        if SearchReturn.COUNT in returns:
            parts.append(b"COUNT %d" % sum(stop - begin for begin, stop in spans))
        if highest is not None:
            parts.append(b"MODSEQ %d" % highest)
        return untagged(b" ".join(parts))
