"""STORE: change flags (RFC 3501 6.4.6; conditional RFC 7162 3.1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.v1 import message_pb2, methods
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status, modified
from restante_gateways.imap.grammar.sets import SequenceSet, subtract
from restante_gateways.imap.table import SELECTED, command
from restante_gateways.imap.view.folder import PendingStore

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

_OPERATIONS = {
    b"FLAGS": message_pb2.FLAG_OPERATION_REPLACE,
    b"+FLAGS": message_pb2.FLAG_OPERATION_ADD,
    b"-FLAGS": message_pb2.FLAG_OPERATION_REMOVE,
}


@command("STORE", "UID STORE", state=SELECTED, holds_numbers=True)
@dataclass(frozen=True)
class Store:
    """Change the flags of messages, and tell them unless .SILENT (RFC 3501 6.4.6).

    A message that was removed, though the client was not told yet, is left as it was, and the others are changed: a NO
    would be taken for a failure of the whole (RFC 2180 4.2 leaves the choice).
    """

    messages: SequenceSet
    uid: bool
    operation: message_pb2.FlagOperation.ValueType
    silent: bool
    flags: Flags
    unchanged_since: int | None = None

    @classmethod
    def parse(cls, p: Parser) -> Store:
        messages = p.sp().sequence_set()
        unchanged_since = None
        if p.sp().accept(b"("):
            if p.word() != b"UNCHANGEDSINCE":
                raise ParseError("UNCHANGEDSINCE expected")
            unchanged_since = p.sp().change_number()
            p.expect(b")").sp()
        word = p.word()
        name = word.removesuffix(b".SILENT")
        if name not in _OPERATIONS:
            raise ParseError("FLAGS expected")
        flags = p.sp().flag_list(bare=True)
        p.end()
        return cls(messages, p.uid, _OPERATIONS[name], name != word, flags, unchanged_since)

    async def run(self, s: Session) -> Status:
        view = s.view
        spans = view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("No such message.")
        if view.read_only:
            return NO("The folder is open to read only.", b"CANNOT")
        if self.unchanged_since is not None:
            s.enable_condstore()
        if not spans:
            return OK("Nothing to change.")
        asked, before = view.uid_ranges(spans), view.folder.change_number
        pending = PendingStore(asked, view.folder.table.changed(self.applied))
        view.folder.pending.append(pending)
        try:
            response = await s.call(
                methods.UPDATE_MESSAGES,
                message_pb2.UpdateMessagesRequest(
                    messages=s.message_set(spans),
                    operation=self.operation,
                    flags=int(self.flags.system),
                    keywords=self.flags.keywords,
                    if_change_number=self.unchanged_since,
                    changes_since=s.changes_since(spans),
                ),
                follow=False,
            )
            await s.absorb(response.changes, response.commit)
        finally:
            view.folder.pending.remove(pending)
        left_alone = [(run.first, run.last) for run in response.modified_uids]
        changed = subtract(asked, left_alone)
        view.note_own_change(before, response.commit.change_number, changed)
        view.surprises |= pending.surprises
        return await self._answer(s, changed, left_alone)

    async def _answer(self, s: Session, changed: list[tuple[int, int]], left_alone: list[tuple[int, int]]) -> Status:
        view = s.view
        conditional = self.unchanged_since is not None
        if not self.silent or conditional:  # RFC 7162 3.1.3: MODSEQ is told even of a silent conditional STORE
            spans = [(first - 1, last) for first, last in view.numbers(changed)]
            await s.write_blocks(view.flag_responses(spans, self.uid, s.condstore))
        if left_alone:
            code = modified(left_alone if self.uid else view.numbers(left_alone))
            return OK("Some were changed meanwhile and left as they are.", code)
        return OK("Changed.")

    def applied(self, before: Flags) -> Flags:
        """What this STORE makes of a state; keywords compare without letter case."""
        mine = {keyword.lower() for keyword in self.flags.keywords}
        others = tuple(keyword for keyword in before.keywords if keyword.lower() not in mine)
        match self.operation:
            case message_pb2.FLAG_OPERATION_ADD:
                return Flags(before.system | self.flags.system, others + self.flags.keywords)
            case message_pb2.FLAG_OPERATION_REMOVE:
                return Flags(before.system & ~self.flags.system, others)
            case _:
                return self.flags
