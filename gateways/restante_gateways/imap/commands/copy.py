"""COPY and MOVE (RFC 3501 6.4.7; RFC 6851)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.v1 import message_pb2, methods
from restante_gateways.imap.errors import missing_target
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status, copy_uid
from restante_gateways.imap.grammar.sets import SequenceSet, Span
from restante_gateways.imap.table import SELECTED, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


def _set_and_target(p: Parser) -> tuple[SequenceSet, bool, str]:
    messages = p.sp().sequence_set()
    target = p.sp().mailbox_name()
    p.end()
    return messages, p.uid, target


def _count(spans: list[Span]) -> int:
    """How many messages must be there, where all or none are taken: one may have left that is not known of here."""
    return sum(stop - first for first, stop in spans)


def _copy_uid(done: message_pb2.CopyMessagesResponse | message_pb2.MoveMessagesResponse) -> bytes | None:
    """The code with both sets, absent when nothing was there to copy (RFC 4315 3)."""
    if not done.source_uids:
        return None
    return copy_uid(
        done.target_uid_validity,
        [(run.first, run.last) for run in done.source_uids],
        [(run.first, run.last) for run in done.target_uids],
    )


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
        spans = s.view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("No such message.")
        if not self.uid and s.view.gone(spans):
            return NO("Some of the messages are gone.", b"EXPUNGEISSUED")  # all or none
        if not spans:
            await s.target_folder(self.target)
            return OK("Nothing to copy.")
        target, path = s.target(self.target)
        with missing_target():
            copied = await s.call(
                methods.COPY_MESSAGES,
                message_pb2.CopyMessagesRequest(
                    messages=s.message_set(spans),
                    target_folder_id=target,
                    target_path=path,
                    request_id=s.request_id(),
                    if_message_count=None if self.uid else _count(spans),
                ),
            )
        await s.reached(copied.target_folder_id, copied.commit.change_number)
        return OK("Copied.", _copy_uid(copied))


@command("MOVE", "UID MOVE", state=SELECTED, capability="MOVE")
@dataclass(frozen=True)
class Move:
    """Move messages to another folder. RFC 6851 3; COPYUID comes before the EXPUNGEs, 4.3."""

    messages: SequenceSet
    uid: bool
    target: str

    @classmethod
    def parse(cls, p: Parser) -> Move:
        return cls(*_set_and_target(p))

    async def run(self, s: Session) -> Status:
        view = s.view
        spans = view.spans(self.messages, self.uid)
        if spans is None:
            return BAD("No such message.")
        if view.read_only:
            return NO("The folder is open to read only.", b"CANNOT")
        if not self.uid and view.gone(spans):
            return NO("Some of the messages are gone.", b"EXPUNGEISSUED")
        if not spans:
            await s.target_folder(self.target)
            return OK("Nothing to move.")
        target, path = s.target(self.target)
        with missing_target():
            moved = await s.call(
                methods.MOVE_MESSAGES,
                message_pb2.MoveMessagesRequest(
                    messages=s.message_set(spans),
                    target_folder_id=target,
                    target_path=path,
                    request_id=s.request_id(),
                    changes_since=s.changes_since(spans),
                    if_message_count=None if self.uid else _count(spans),
                ),
                follow=False,
            )
        if (code := _copy_uid(moved)) is not None:
            s.write(OK("Moved.", code).encode())
        await s.absorb(moved.changes, moved.commit)
        return OK("Moved.")
