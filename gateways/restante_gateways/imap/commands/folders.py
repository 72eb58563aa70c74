"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE (RFC 3501 6.3.3 to 6.3.7)."""

from __future__ import annotations

from dataclasses import dataclass

from restante import errors
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import LOGGED_IN, command
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status
from restante_gateways.imap.values import FolderPath, Messages, Place


def _one_name(p: Parser) -> str:
    name = p.sp().mailbox_name()
    p.end()
    return name


@command("CREATE", state=LOGGED_IN)
@dataclass(frozen=True)
class Create:
    """Create a folder and its missing parents. RFC 3501 6.3.3."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Create:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        named = s.account.path(self.name.removesuffix("/"))  # a trailing separator only announces child folders
        if named.path == ("INBOX",):
            return NO("INBOX already exists.", b"ALREADYEXISTS")
        await s.account.folders.create(named)
        return OK("CREATE completed.")


@command("DELETE", state=LOGGED_IN)
@dataclass(frozen=True)
class Delete:
    """Delete a folder without children. RFC 3501 6.3.4."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Delete:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        if self.name == "INBOX":
            return NO("INBOX cannot be deleted.", b"CANNOT")
        place = (await s.account.folder(self.name)).place
        if s.selected is None or s.selected.place != place:
            await s.account.folders.delete(place)
            return OK("DELETE completed.")
        with s.selected.deleting():
            await s.account.folders.delete(place)
        s.deselect()
        return OK("DELETE completed.")


@command("RENAME", state=LOGGED_IN)
@dataclass(frozen=True)
class Rename:
    """Rename or move a folder with all its descendants. RFC 3501 6.3.5."""

    source: str
    target: str

    @classmethod
    def parse(cls, p: Parser) -> Rename:
        source = p.sp().mailbox_name()
        target = p.sp().mailbox_name()
        p.end()
        return cls(source, target)

    async def run(self, s: Session) -> Status:
        named = s.account.path(self.target.removesuffix("/"))
        if named.path == ("INBOX",):
            return NO("INBOX already exists.", b"ALREADYEXISTS")
        place = (await s.account.folder(self.source)).place
        if self.source == "INBOX":
            await self._move_out_of_inbox(s, place, named)
        else:
            await s.account.folders.move(place, named.path)
        return OK("RENAME completed.")

    @staticmethod
    async def _move_out_of_inbox(s: Session, inbox: Place, named: FolderPath) -> None:
        """Move the messages of INBOX into a new folder; the children of INBOX stay (RFC 3501 6.3.5)."""
        created = await s.account.folders.create(named)
        moved = await s.account.messages.move(Messages.all_of(inbox), created, count=None)
        if s.selected is not None:
            await s.selected.note_commit(inbox, moved.commit)


async def _subscribe(s: Session, name: str, subscribed: bool) -> None:
    await s.account.folders.subscribe(s.account.path(name.removesuffix("/")), subscribed)


@command("SUBSCRIBE", state=LOGGED_IN)
@dataclass(frozen=True)
class Subscribe:
    """Subscribe a name; the folder need not exist. RFC 3501 6.3.6."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Subscribe:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        await _subscribe(s, self.name, subscribed=True)
        return OK("SUBSCRIBE completed.")


@command("UNSUBSCRIBE", state=LOGGED_IN)
@dataclass(frozen=True)
class Unsubscribe:
    """Unsubscribe a name. RFC 3501 6.3.7."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Unsubscribe:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        try:
            await _subscribe(s, self.name, subscribed=False)
        except errors.FolderNameInvalid:
            return NO("The folder name is invalid, so no subscription to it exists.", b"NONEXISTENT")
        return OK("UNSUBSCRIBE completed.")
