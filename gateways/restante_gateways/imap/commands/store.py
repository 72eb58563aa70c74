"""STORE: change flags (RFC 3501 6.4.6; conditional RFC 7162 3.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restante_gateways.imap.commands.condstore import enable as enable_condstore
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import SELECTED, command
from restante_gateways.imap.grammar import condstore
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status
from restante_gateways.imap.grammar.sets import SequenceSet
from restante_gateways.imap.values import FlagOperation
from restante_gateways.imap.view.pending import PendingStore
from restante_mail.ranges import Range, subtract

_OPERATIONS = {
    b"FLAGS": FlagOperation.REPLACE,
    b"+FLAGS": FlagOperation.ADD,
    b"-FLAGS": FlagOperation.REMOVE,
}


@command("STORE", "UID STORE", state=SELECTED, holds_numbers=True)
@dataclass(frozen=True)
class Store:
    """Change the flags of messages, and answer with them unless .SILENT (RFC 3501 6.4.6).

    Messages whose removal is not announced yet are skipped, and the others are changed: clients take a NO for a failure
    of the whole command (RFC 2180 4.2 leaves the choice).
    """

    messages: SequenceSet
    uid: bool
    operation: FlagOperation
    silent: bool
    flags: Flags
    unchanged_since: int | None = None

    @classmethod
    def parse(cls, p: Parser) -> Store:
        messages = p.sp().sequence_set()
        unchanged_since = condstore.unchanged_since(p.sp())
        word = p.word()
        name = word.removesuffix(b".SILENT")
        if name not in _OPERATIONS:
            raise ParseError("FLAGS expected")
        flags = p.sp().flag_list(bare=True)
        p.end()
        return cls(messages, p.uid, _OPERATIONS[name], name != word, flags, unchanged_since)

    async def run(self, s: Session) -> Status:
        folder, view = s.folder, s.folder.view
        spans = view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("A message number is above the number of messages.")
        if view.read_only:
            return NO("The folder is open read-only; use SELECT to change it.", b"CANNOT")
        if self.unchanged_since is not None:
            enable_condstore(s)
        if not spans:
            return OK("STORE completed; no message has these UIDs.")
        asked, before = view.uid_ranges(spans), view.folder.change_number
        pending = PendingStore(asked, view.folder.table.changed(self.applied))
        view.folder.pending.append(pending)
        try:
            done = await s.account.messages.store(
                folder.messages(spans), self.operation, self.flags, folder.changes_since(spans), self.unchanged_since
            )
            await folder.absorb(done)
        finally:
            view.folder.pending.remove(pending)
        changed = subtract(asked, done.modified)
        view.note_own_change(before, done.commit.change_number, changed)
        view.surprises |= pending.surprises
        return await self._answer(s, changed, done.modified)

    async def _answer(self, s: Session, changed: Sequence[Range], left_alone: Sequence[Range]) -> Status:
        view = s.folder.view
        conditional = self.unchanged_since is not None
        if not self.silent or conditional:  # RFC 7162 3.1.3: even a silent conditional STORE answers with MODSEQ
            spans = [(first - 1, last) for first, last in view.numbers(changed)]
            await s.client.write_blocks(view.flag_responses(spans, self.uid, s.announcements.with_change_numbers))
        if left_alone:
            code = condstore.modified(left_alone if self.uid else view.numbers(left_alone))
            return OK("STORE completed, except for messages that changed since.", code)
        return OK("STORE completed.")

    def applied(self, before: Flags) -> Flags:
        """The flags after this STORE; keywords compare case-insensitively."""
        mine = {keyword.lower() for keyword in self.flags.keywords}
        others = tuple(keyword for keyword in before.keywords if keyword.lower() not in mine)
        match self.operation:
            case FlagOperation.ADD:
                return Flags(before.system | self.flags.system, others + self.flags.keywords)
            case FlagOperation.REMOVE:
                return Flags(before.system & ~self.flags.system, others)
            case _:
                return self.flags
