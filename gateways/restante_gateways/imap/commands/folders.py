"""Making, renaming, deleting and subscribing folders (RFC 3501 6.3.3 to 6.3.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante import errors
from restante.v1 import folder_pb2, message_pb2, methods, types_pb2
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status
from restante_gateways.imap.grammar.sets import MAX_NUMBER
from restante_gateways.imap.table import LOGGED_IN, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


def _one_name(p: Parser) -> str:
    name = p.sp().mailbox_name()
    p.end()
    return name


@command("CREATE", state=LOGGED_IN)
@dataclass(frozen=True)
class Create:
    """Make a folder, and those above it that are missing. RFC 3501 6.3.3."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Create:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        path = s.path(self.name.removesuffix("/"))  # a last separator only says that folders will be made below
        if path == ["INBOX"]:
            return NO("INBOX is always there.", b"ALREADYEXISTS")
        await s.call(methods.CREATE_FOLDER, folder_pb2.CreateFolderRequest(path=path, request_id=s.request_id()))
        return OK("Created.")


@command("DELETE", state=LOGGED_IN)
@dataclass(frozen=True)
class Delete:
    """Delete a folder that has none below it. RFC 3501 6.3.4."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Delete:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        if self.name == "INBOX":
            return NO("INBOX stays.", b"CANNOT")
        folder = await s.folder(self.name)
        if s.has_selected(folder.folder_id):
            s.deselect()
        await s.call(methods.DELETE_FOLDER, folder_pb2.DeleteFolderRequest(folder_id=folder.folder_id))
        return OK("Deleted.")


@command("RENAME", state=LOGGED_IN)
@dataclass(frozen=True)
class Rename:
    """Rename or move a folder with all below it. RFC 3501 6.3.5."""

    source: str
    target: str

    @classmethod
    def parse(cls, p: Parser) -> Rename:
        source = p.sp().mailbox_name()
        target = p.sp().mailbox_name()
        p.end()
        return cls(source, target)

    async def run(self, s: Session) -> Status:
        path = s.path(self.target.removesuffix("/"))
        if path == ["INBOX"]:
            return NO("INBOX is there already.", b"ALREADYEXISTS")
        folder = await s.folder(self.source)
        if self.source == "INBOX":
            await self._move_out_of_inbox(s, folder.folder_id, path)
        else:
            request = folder_pb2.MoveFolderRequest(folder_id=folder.folder_id, path=path)
            await s.call(methods.MOVE_FOLDER, request)
        return OK("Renamed.")

    @staticmethod
    async def _move_out_of_inbox(s: Session, inbox_id: int, path: list[str]) -> None:
        """Renaming INBOX moves its messages into a new folder and leaves the folders below where they are."""
        created = await s.call(
            methods.CREATE_FOLDER, folder_pb2.CreateFolderRequest(path=path, request_id=s.request_id())
        )
        everything = types_pb2.MessageSet(folder_id=inbox_id, uids=[types_pb2.IdRange(first=1, last=MAX_NUMBER)])
        moved = await s.call(
            methods.MOVE_MESSAGES,
            message_pb2.MoveMessagesRequest(
                messages=everything, target_folder_id=created.folder.folder_id, request_id=s.request_id()
            ),
        )
        await s.reached(inbox_id, moved.commit.change_number)


async def _subscribe(s: Session, name: str, subscribed: bool) -> None:
    request = folder_pb2.SetSubscriptionRequest(path=s.path(name.removesuffix("/")), subscribed=subscribed)
    await s.call(methods.SET_SUBSCRIPTION, request)


@command("SUBSCRIBE", state=LOGGED_IN)
@dataclass(frozen=True)
class Subscribe:
    """Put a name on the list of LSUB, whether or not it is there. RFC 3501 6.3.6."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Subscribe:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        await _subscribe(s, self.name, subscribed=True)
        return OK("Subscribed.")


@command("UNSUBSCRIBE", state=LOGGED_IN)
@dataclass(frozen=True)
class Unsubscribe:
    """Take a name off the list of LSUB. RFC 3501 6.3.7."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> Unsubscribe:
        return cls(_one_name(p))

    async def run(self, s: Session) -> Status:
        try:
            await _subscribe(s, self.name, subscribed=False)
        except errors.FolderNameInvalid:
            return NO("No such name can be subscribed.", b"NONEXISTENT")
        return OK("Unsubscribed.")
