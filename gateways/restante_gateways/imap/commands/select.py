"""Opening and closing a folder: SELECT, EXAMINE, CHECK, CLOSE, UNSELECT (RFC 3501 6.3.1, 6.4; RFC 3691)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.v1 import message_pb2, methods, types_pb2
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import OK, Status, highest_change_number, untagged
from restante_gateways.imap.grammar.sets import MAX_NUMBER
from restante_gateways.imap.table import LOGGED_IN, SELECTED, command, offer

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

offer("CONDSTORE")


def _name_and_condstore(p: Parser) -> tuple[str, bool]:
    name = p.sp().mailbox_name()
    words = [] if p.at_end else p.sp().parenthesised_words()
    p.end()
    if set(words) - {b"CONDSTORE"}:
        raise ParseError("no such parameter")
    return name, bool(words)


async def _open(s: Session, name: str, condstore: bool, read_only: bool) -> Status:
    """Answers as RFC 3501 6.3.1 lists it; without CONDSTORE asked for, HIGHESTMODSEQ is told all the same."""
    s.deselect()  # a SELECT that fails leaves nothing selected (RFC 3501 6.3.1)
    folder = await s.folder(name)
    if condstore:
        s.enable_condstore()
    view = await s.select(folder, read_only)
    unseen = view.folder.first_unseen()
    answers = [
        view.flags_in_use(),
        untagged(b"%d EXISTS" % view.count),
        untagged(b"%d RECENT" % view.recent_count()),
        OK("UIDs are valid.", b"UIDVALIDITY %d" % view.folder.uid_validity).encode(),
        OK("Next UID.", b"UIDNEXT %d" % view.folder.uid_next).encode(),
        highest_change_number(view.told_change_number).encode(),
    ]
    if unseen is not None:
        answers.append(OK("First unseen.", b"UNSEEN %d" % (unseen + 1)).encode())
    s.write(b"".join(answers))
    return OK("Examined.", b"READ-ONLY") if read_only else OK("Selected.", b"READ-WRITE")


@command("SELECT", state=LOGGED_IN, tells=False, opens=True)
@dataclass(frozen=True)
class Select:
    """Open a folder to read and change it. RFC 3501 6.3.1; RFC 7162 3.1.8."""

    name: str
    condstore: bool

    @classmethod
    def parse(cls, p: Parser) -> Select:
        return cls(*_name_and_condstore(p))

    async def run(self, s: Session) -> Status:
        return await _open(s, self.name, self.condstore, read_only=False)


@command("EXAMINE", state=LOGGED_IN, tells=False, opens=True)
@dataclass(frozen=True)
class Examine:
    """Open a folder to read it only. RFC 3501 6.3.2."""

    name: str
    condstore: bool

    @classmethod
    def parse(cls, p: Parser) -> Examine:
        return cls(*_name_and_condstore(p))

    async def run(self, s: Session) -> Status:
        return await _open(s, self.name, self.condstore, read_only=True)


@command("CHECK", state=SELECTED)
@dataclass(frozen=True)
class Check:
    """Like NOOP: nothing is here that could be lost by not writing it. RFC 3501 6.4.1."""

    @classmethod
    def parse(cls, p: Parser) -> Check:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        return OK("Checked.")


@command("CLOSE", state=SELECTED, tells=False)
@dataclass(frozen=True)
class Close:
    """Remove what is marked deleted, silently, and close the folder. RFC 3501 6.4.2."""

    @classmethod
    def parse(cls, p: Parser) -> Close:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        if not s.view.read_only and await s.any_deleted():
            everything = types_pb2.MessageSet(
                folder_id=s.view.folder.folder_id, uids=[types_pb2.IdRange(first=1, last=MAX_NUMBER)]
            )
            await s.call(
                methods.DELETE_MESSAGES,
                message_pb2.DeleteMessagesRequest(
                    messages=everything, mode=message_pb2.DELETE_MODE_SOFT, only_flagged_deleted=True
                ),
            )
        s.deselect()
        return OK("Closed.")


@command("UNSELECT", state=SELECTED, tells=False, capability="UNSELECT")
@dataclass(frozen=True)
class Unselect:
    """Close the folder and remove nothing. RFC 3691 2."""

    @classmethod
    def parse(cls, p: Parser) -> Unselect:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        s.deselect()
        return OK("Closed.")
