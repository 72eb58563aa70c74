"""The account of a logged-in connection: its session with the core, its calls, and its folder names."""

from __future__ import annotations

from restante import errors
from restante.link import CoreLink
from restante_gateways.core.sessions import AccountSession
from restante_gateways.imap.core.folders import FolderCalls
from restante_gateways.imap.core.messages import MessageCalls
from restante_gateways.imap.core.operations import Operations
from restante_gateways.imap.errors import TRY_CREATE, Refusal
from restante_gateways.imap.grammar.responses import NO
from restante_gateways.imap.values import SEPARATOR, Folder, FolderPath, Place, Target

_MOST_TARGETS = 100  # names kept


class Account:
    """One connection's account. Every full folder name is a path in the account's own mailbox."""

    __slots__ = ("_inbox", "_targets", "folders", "messages", "operations", "session")

    def __init__(self, link: CoreLink, session: AccountSession, stream_patience_seconds: float) -> None:
        self.session = session
        self.operations = Operations(link, session, stream_patience_seconds)
        self.folders, self.messages = FolderCalls(self.operations), MessageCalls(self.operations)
        self._inbox: Place | None = None  # cached permanently: INBOX can be neither deleted nor renamed
        self._targets: set[str] = set()  # names whose folders the core confirmed

    @property
    def mailbox_id(self) -> int:
        """The account's own mailbox."""
        return self.session.mailbox_id

    def path(self, name: str) -> FolderPath:
        """The mailbox and path of a full folder name; the folder need not exist. Raises Refusal."""
        levels = name.split(SEPARATOR)
        if not all(levels):
            raise Refusal(NO("The folder name is invalid.", b"CANNOT"))
        return FolderPath(self.mailbox_id, tuple(levels))

    async def folder(self, name: str) -> Folder:
        """A folder by its full name. Raises FolderNotFound, Refusal."""
        return await self.folders.get(self.path(name))

    def target(self, name: str) -> Target:
        """The target folder of an APPEND, COPY or MOVE, without a call to the core. Raises Refusal.

        Use the target inside `errors.missing_target`, since the folder may not exist.
        """
        return self._inbox if name == "INBOX" and self._inbox is not None else self.path(name)

    async def target_place(self, name: str) -> Place:
        """The target folder, looked up in the core. Raises Refusal with TRYCREATE if it is missing (RFC 3501 7.1)."""
        if name == "INBOX" and self._inbox is not None:
            return self._inbox
        try:
            place = (await self.folder(name)).place
        except errors.FolderNotFound:
            raise Refusal(TRY_CREATE) from None
        if name == "INBOX":
            self._inbox = place
        return place

    async def expect_target(self, name: str) -> None:
        """Check that a folder exists, asking the core once for each name. Raises as `target_place`.

        The check only decides whether to accept the client's data: the later call reports a folder deleted meanwhile.
        """
        if name not in self._targets:
            await self.target_place(name)
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            self._targets.add(name)
