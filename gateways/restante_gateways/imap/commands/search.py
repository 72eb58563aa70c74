"""SEARCH (RFC 3501 6.4.4; ESEARCH RFC 4731; MODSEQ RFC 7162 3.1.5).

The view evaluates the keys that it can. One core operation evaluates the others, on the messages still left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restante import errors
from restante_gateways.imap.commands.condstore import enable as enable_condstore
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import SELECTED, command, extension
from restante_gateways.imap.errors import Refusal
from restante_gateways.imap.grammar import condstore, encoder, sets
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status, untagged
from restante_gateways.imap.grammar.search import return_options, search_keys
from restante_gateways.imap.grammar.search_keys import SearchAnd, SearchKey, SearchReturn
from restante_gateways.imap.grammar.sets import Span
from restante_gateways.imap.view.search import by_uid, evaluate, everything, is_local, may_change
from restante_mail import ranges
from restante_mail.ranges import Range

_SECONDS = 60.0  # time limit of a search in the core; mail programs wait about as long
# Messages of which the core's answer always fits an operation: at worst every other one matches, and each match has a
# range of 14 octets, out of 64 KiB.
_PIECE = 8_000
_GOES_ON = OK("The search continues.").encode()

extension("ESEARCH")


@command("SEARCH", "UID SEARCH", state=SELECTED, holds_numbers=True)
@dataclass(frozen=True)
class Search:
    """Find messages."""

    key: SearchKey
    uid: bool
    returns: SearchReturn | None = None  # None: an untagged SEARCH response

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
        with_change_number = condstore.is_in(self.key)
        if with_change_number:
            enable_condstore(s)
        spans = await self._find(s)
        highest = None
        if spans and with_change_number:
            highest = s.folder.view.highest_change_number(self._announced(spans))
        if self.returns is None:
            s.client.write(self._plain(s, spans, highest))
        else:
            s.client.write(self._extended(s, spans, self.returns, highest))
        return OK("SEARCH completed.")

    async def _find(self, s: Session) -> list[Span]:
        """Positions of the matching messages, ascending, judged by current flags."""
        keys = self.key.keys if isinstance(self.key, SearchAnd) else (self.key,)
        local = [key for key in keys if is_local(key)]
        remote = [key for key in keys if not is_local(key)]
        if not remote:
            await s.folder.catch_up()
        known = s.folder.view.folder.change_number
        found = await self._match(s, local, remote)
        if remote and any(map(may_change, local)):
            await s.folder.catch_up()
            if s.folder.was_behind(known):
                found = await self._match(s, local, remote)
        return found

    async def _match(self, s: Session, local: Sequence[SearchKey], remote: Sequence[SearchKey]) -> list[Span]:
        """Evaluate the local keys, then let the core evaluate the remote keys on the messages left.

        If the core finds more than fits its answer, it is asked again about some of the messages at a time.
        """
        view = s.folder.view
        found = whole = everything(view)
        for key in local:
            found = sets.intersect(found, evaluate(view, key))
        if not remote or not found:
            return found
        keys = [by_uid(view, key) for key in remote]
        try:
            uids = await _ask(s, keys, None if found == whole else view.uid_ranges(found))
        except errors.ResultTooLarge:
            uids = []
            for piece in sets.pieces(found, _PIECE):
                uids += await _ask(s, keys, view.uid_ranges(piece))
        return sets.intersect(found, sets.positions(view.uids, view.count, uids))

    def _announced(self, spans: list[Span]) -> list[Span]:
        """The messages that the MODSEQ of the response covers (RFC 7162 3.1.10).

        A response with only MIN, MAX or both covers just those messages; any other covers all hits.
        """
        if self.returns is None or self.returns & (SearchReturn.ALL | SearchReturn.COUNT):
            return spans
        first, last = spans[0][0], spans[-1][1] - 1
        named = [first] if SearchReturn.MIN in self.returns else []
        named += [last] if SearchReturn.MAX in self.returns else []
        return [(at, at + 1) for at in named]

    def _plain(self, s: Session, spans: list[Span], highest: int | None) -> bytes:
        uids = s.folder.view.uids
        if self.uid:
            numbers = (b" %d" % uid for first, stop in spans for uid in uids[first:stop])
        else:
            numbers = (b" %d" % number for first, stop in spans for number in range(first + 1, stop + 1))
        tail = b" (MODSEQ %d)" % highest if highest is not None else b""  # RFC 7162 3.1.5
        return b"* SEARCH" + b"".join(numbers) + tail + b"\r\n"

    def _extended(self, s: Session, spans: list[Span], returns: SearchReturn, highest: int | None) -> bytes:
        """The ESEARCH response; without hits it has no MIN, MAX or ALL, but COUNT 0 (RFC 4731 3.1)."""
        uids = s.folder.view.uids
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
                    found = ranges.compress(uid for begin, stop in spans for uid in uids[begin:stop])
                else:
                    found = [(begin + 1, stop) for begin, stop in spans]
                parts.append(b"ALL " + sets.encode_ranges(found))
        if SearchReturn.COUNT in returns:
            parts.append(b"COUNT %d" % sum(stop - begin for begin, stop in spans))
        if highest is not None:
            parts.append(b"MODSEQ %d" % highest)
        return untagged(b" ".join(parts))


async def _ask(s: Session, keys: Sequence[SearchKey], within: Sequence[Range] | None) -> list[Range]:
    """UIDs that the core finds. Raises Refusal if the search times out or the account runs too many at once."""
    search = s.account.messages.search(s.folder.place, keys, within, _SECONDS)
    try:
        return await s.client.wait_for(search, _GOES_ON)
    except errors.DeadlineExceeded:
        text = f"The search was stopped after {_SECONDS:.0f} seconds; search fewer messages, or use fewer keys."
        raise Refusal(NO(text, b"LIMIT")) from None
    except errors.TooManyOperations:
        raise Refusal(NO("This account runs too many searches; try again later.", b"LIMIT")) from None
