"""FETCH (RFC 3501 6.4.5; CHANGEDSINCE RFC 7162 3.1.4).

FLAGS, UID and MODSEQ come from the view. All other items come from the core in rows, written as they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restante import errors
from restante_gateways.imap.commands.condstore import enable as enable_condstore
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import SELECTED, command
from restante_gateways.imap.errors import Refusal
from restante_gateways.imap.grammar import condstore
from restante_gateways.imap.grammar.fetch import FetchFact, Layout, fetch_layout
from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status
from restante_gateways.imap.grammar.sets import SequenceSet, Span
from restante_gateways.imap.values import FlagOperation, Messages, RemovedMessages, Rest
from restante_gateways.imap.view.departed import Lapsed
from restante_gateways.imap.view.rows import BrokenRows, RowWriter
from restante_mail.ranges import Range

_MAX_SECTIONS = 32  # of one request
_MOST_MESSAGE_IDS = 1_000  # of one request


@command("FETCH", "UID FETCH", state=SELECTED, holds_numbers=True)
@dataclass(frozen=True)
class Fetch:
    """Read facts and octets of messages."""

    messages: SequenceSet
    uid: bool
    layout: Layout
    changed_since: int | None = None

    @classmethod
    def parse(cls, p: Parser) -> Fetch:
        messages = p.sp().sequence_set()
        layout = fetch_layout(p.sp())
        changed_since = condstore.changed_since(p)
        p.end()
        if changed_since is not None:
            layout = layout.with_fact(FetchFact.MODSEQ)  # RFC 7162 3.1.4.1
        return cls(messages, p.uid, layout, changed_since)

    async def run(self, s: Session) -> Status:
        view, layout = s.folder.view, self.layout
        if layout.by_view or self.changed_since is not None:
            await s.folder.catch_up()
        spans = view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("A message number is above the number of messages.")
        if FetchFact.MODSEQ in layout.facts:
            enable_condstore(s)
        if self.changed_since is not None:
            spans = view.changed_since(spans, self.changed_since)
        if not spans:
            pass
        elif layout.by_view:
            await s.client.write_blocks(view.fact_responses(spans, layout.facts))
        else:
            await self._from_core(s, spans)
        return OK("FETCH completed.")

    async def _from_core(self, s: Session, spans: Sequence[Span]) -> None:
        """Write a response for each message at these positions.

        Messages whose removal is not announced yet are read by their message ids (RFC 2180 4.1.2). Raises Lapsed when
        the core no longer has such a message.
        """
        view = s.folder.view
        if len(self.layout.sections) > _MAX_SECTIONS:
            raise Refusal(NO(f"FETCH may ask for at most {_MAX_SECTIONS} sections.", b"LIMIT"))
        seen_now = await self._mark_seen(s, spans) if self.layout.sets_seen else ()
        writer = RowWriter(view, self.layout, seen_now, s.announcements.with_change_numbers)
        try:
            if there := view.still_there(spans):
                count = sum(stop - first for first, stop in there)
                if count == 1 and self.layout.sections:
                    await self._write_next(s, writer, there[0][0])
                else:
                    await self._write_rows(s, writer, s.folder.messages(there), count)
            missing = writer.missing(spans)
            removed = list(view.message_ids(missing).items()) if missing else []
            for start in range(0, len(removed), _MOST_MESSAGE_IDS):
                some = dict(removed[start : start + _MOST_MESSAGE_IDS])
                writer.expect(some)
                named = RemovedMessages(s.folder.place.mailbox_id, list(some))
                await self._write_rows(s, writer, named, len(some))
        except (errors.RestanteError, BrokenRows):
            if not writer.unfinished:
                raise
            s.client.abort()
        if removed and writer.missing(spans):
            raise Lapsed

    async def _write_next(self, s: Session, writer: RowWriter, position: int) -> None:
        """Write one message, read ahead or now; read the next ones, too, for a client that goes on in order."""
        folder, view, ahead = s.folder, s.folder.view, s.folder.ahead
        uid = view.uids[position]
        following = view.uids[position + 1] if position + 1 < view.count else 0
        layout = self.layout
        rows = ahead.take(layout, uid, following)
        count = 0 if rows is not None else min(ahead.window(), view.count - position)
        while count:
            messages = folder.messages([(position, position + count)])
            answer = await s.account.messages.few_rows(messages, layout.facts, layout.sections)
            if answer is not None:
                rows = ahead.keep(uid, answer)
                break
            ahead.too_large()
            count //= 2
        if rows is not None:
            s.client.write(writer.batch(rows))
        else:
            await self._write_rows(s, writer, folder.messages([(position, position + 1)]), count=None)

    async def _write_rows(
        self, s: Session, writer: RowWriter, messages: Messages | RemovedMessages, count: int | None
    ) -> None:
        """Write messages as they arrive. `count`: how many; None if they are too large for an operation."""
        async for answer in s.account.messages.rows(messages, count, self.layout.facts, self.layout.sections):
            s.client.write(writer.continued(answer) if isinstance(answer, Rest) else writer.batch(answer))
            await s.client.flow()
        writer.finish()

    async def _mark_seen(self, s: Session, spans: Sequence[Span]) -> Sequence[Range]:
        """Mark unread messages \\Seen. Return their UIDs, whose responses must carry FLAGS."""
        folder, view = s.folder, s.folder.view
        if view.read_only:
            return ()
        unseen = view.without_flag(SystemFlag.SEEN, view.still_there(spans))
        if not unseen:
            return ()
        before, marked = view.folder.change_number, view.uid_ranges(unseen)
        done = await s.account.messages.store(
            folder.messages(unseen), FlagOperation.ADD, Flags(SystemFlag.SEEN), folder.changes_since(unseen)
        )
        await folder.absorb(done)
        view.note_own_change(before, done.commit.change_number, marked)
        return marked
