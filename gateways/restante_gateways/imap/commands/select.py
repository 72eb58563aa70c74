"""SELECT, EXAMINE, CHECK, CLOSE and UNSELECT (RFC 3501 6.3.1, 6.4; RFC 3691)."""

from __future__ import annotations

from dataclasses import dataclass

from restante_gateways.imap.commands.condstore import enable as enable_condstore
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import LOGGED_IN, SELECTED, command, extension
from restante_gateways.imap.grammar import condstore
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import OK, Status
from restante_gateways.imap.values import Messages

_FACTS = b"* %d EXISTS\r\n* %d RECENT\r\n* OK [UIDVALIDITY %d] UIDs valid.\r\n* OK [UIDNEXT %d] Next UID.\r\n"


def _name_and_condstore(p: Parser) -> tuple[str, bool]:
    name = p.sp().mailbox_name()
    with_condstore = condstore.select_parameter(p)
    p.end()
    return name, with_condstore


async def _open(s: Session, name: str, with_condstore: bool, read_only: bool) -> Status:
    """Open a folder and write the responses of RFC 3501 6.3.1, always with HIGHESTMODSEQ."""
    s.deselect()  # a failed SELECT leaves no folder selected (RFC 3501 6.3.1)
    named = s.account.path(name)
    if with_condstore:
        enable_condstore(s)
    view = (await s.select(named, read_only)).view
    folder, unseen = view.folder, view.folder.first_unseen()
    facts = view.count, view.recent_count(), folder.uid_validity, folder.uid_next
    s.client.write(
        b"".join(
            (
                view.flags_in_use(),
                _FACTS % facts,
                condstore.highest(view.announced_change_number).encode(),
                b"" if unseen is None else b"* OK [UNSEEN %d] First unseen.\r\n" % (unseen + 1),
            )
        )
    )
    return OK("EXAMINE completed.", b"READ-ONLY") if read_only else OK("SELECT completed.", b"READ-WRITE")


@command("SELECT", state=LOGGED_IN, announces=False, opens=True)
@dataclass(frozen=True)
class Select:
    """Open a folder for reading and writing. RFC 3501 6.3.1; RFC 7162 3.1.8."""

    name: str
    condstore: bool

    @classmethod
    def parse(cls, p: Parser) -> Select:
        return cls(*_name_and_condstore(p))

    async def run(self, s: Session) -> Status:
        return await _open(s, self.name, self.condstore, read_only=False)


@command("EXAMINE", state=LOGGED_IN, announces=False, opens=True)
@dataclass(frozen=True)
class Examine:
    """Open a folder read-only. RFC 3501 6.3.2."""

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
    """Do the same as NOOP, since the gateway holds no unwritten state. RFC 3501 6.4.1."""

    @classmethod
    def parse(cls, p: Parser) -> Check:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        return OK("CHECK completed.")


@command("CLOSE", state=SELECTED, announces=False)
@dataclass(frozen=True)
class Close:
    """Remove messages marked \\Deleted, silently, and close the folder. RFC 3501 6.4.2."""

    @classmethod
    def parse(cls, p: Parser) -> Close:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        if not s.folder.view.read_only and await s.folder.any_deleted():
            await s.account.messages.delete_marked(Messages.all_of(s.folder.place), changes_since=None)
        s.deselect()
        return OK("CLOSE completed.")


extension("UNSELECT")


@command("UNSELECT", state=SELECTED, announces=False)
@dataclass(frozen=True)
class Unselect:
    """Close the folder without removing messages. RFC 3691 2."""

    @classmethod
    def parse(cls, p: Parser) -> Unselect:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        s.deselect()
        return OK("UNSELECT completed.")
