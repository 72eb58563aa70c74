"""COPY and MOVE (RFC 3501 6.4.7; RFC 6851)."""

from __future__ import annotations

from dataclasses import dataclass

from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import SELECTED, command, extension
from restante_gateways.imap.errors import missing_target
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status, copy_uid
from restante_gateways.imap.grammar.sets import SequenceSet, Span
from restante_gateways.imap.values import Copied


def _set_and_target(p: Parser) -> tuple[SequenceSet, bool, str]:
    messages = p.sp().sequence_set()
    target = p.sp().mailbox_name()
    p.end()
    return messages, p.uid, target


def _count(spans: list[Span]) -> int:
    """The number of messages that the core must find: it copies all or none, and the view may miss a removal."""
    return sum(stop - first for first, stop in spans)


def _copy_uid(done: Copied) -> bytes | None:
    """The COPYUID code with both sets; None when no message was copied (RFC 4315 3)."""
    if not done.source_uids:
        return None
    return copy_uid(done.uid_validity, done.source_uids, done.target_uids)


@command("COPY", "UID COPY", state=SELECTED)
@dataclass(frozen=True)
class Copy:
    """Copy messages to another folder, keeping flags and dates, all or none. RFC 3501 6.4.7."""

    messages: SequenceSet
    uid: bool
    target: str

    @classmethod
    def parse(cls, p: Parser) -> Copy:
        return cls(*_set_and_target(p))

    async def run(self, s: Session) -> Status:
        folder = s.folder
        spans = folder.view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("A message number is above the number of messages.")
        if not self.uid and folder.view.gone(spans):
            return NO(
                "Another session has removed some of the messages; no message was touched.", b"EXPUNGEISSUED"
            )  # all or none
        if not spans:
            await s.account.target_place(self.target)
            return OK("COPY completed; no message has these UIDs.")
        target = s.account.target(self.target)
        with missing_target():
            copied = await s.account.messages.copy(
                folder.messages(spans), target, count=None if self.uid else _count(spans)
            )
        await folder.note_commit(copied.target, copied.commit)
        return OK("COPY completed.", _copy_uid(copied))


extension("MOVE")


@command("MOVE", "UID MOVE", state=SELECTED)
@dataclass(frozen=True)
class Move:
    """Move messages to another folder (RFC 6851 3). COPYUID precedes the EXPUNGE responses (RFC 6851 4.3)."""

    messages: SequenceSet
    uid: bool
    target: str

    @classmethod
    def parse(cls, p: Parser) -> Move:
        return cls(*_set_and_target(p))

    async def run(self, s: Session) -> Status:
        folder = s.folder
        spans = folder.view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("A message number is above the number of messages.")
        if folder.view.read_only:
            return NO("The folder is open read-only; use SELECT to change it.", b"CANNOT")
        if not self.uid and folder.view.gone(spans):
            return NO("Another session has removed some of the messages; no message was touched.", b"EXPUNGEISSUED")
        if not spans:
            await s.account.target_place(self.target)
            return OK("MOVE completed; no message has these UIDs.")
        target = s.account.target(self.target)
        with missing_target():
            moved = await s.account.messages.move(
                folder.messages(spans),
                target,
                count=None if self.uid else _count(spans),
                changes_since=folder.changes_since(spans),
            )
        if (code := _copy_uid(moved)) is not None:
            s.client.write(OK("Moved messages.", code).encode())
        await folder.absorb(moved)
        return OK("MOVE completed.")
