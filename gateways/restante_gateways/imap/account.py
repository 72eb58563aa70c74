"""The account that a connection has logged in to: its session with the core, its calls, and its names of folders."""

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
    """One connection's account. A full name leads to a mailbox and a path in it: today to the account's own mailbox."""

    __slots__ = ("_inbox", "_targets", "folders", "messages", "operations", "session")

    def __init__(self, link: CoreLink, session: AccountSession) -> None:
        self.session = session
        self.operations = Operations(link, session)
        self.folders, self.messages = FolderCalls(self.operations), MessageCalls(self.operations)
        self._inbox: Place | None = None  # once it is known: it can be neither deleted nor renamed
        self._targets: set[str] = set()  # names of folders that existed when a message was put into them

    @property
    def mailbox_id(self) -> int:
        """The account's own mailbox."""
        return self.session.mailbox_id

    def path(self, name: str) -> FolderPath:
        """The place in a mailbox that a full name means, whether or not it exists. Raises Refusal."""
        levels = name.split(SEPARATOR)
        if not all(levels):
            raise Refusal(NO("That cannot be the name of a folder.", b"CANNOT"))
        return FolderPath(self.mailbox_id, tuple(levels))

    async def folder(self, name: str) -> Folder:
        """A folder by its full name. Raises FolderNotFound, Refusal."""
        return await self.folders.get(self.path(name))

    def target(self, name: str) -> Target:
        """The folder that messages are put into. Raises Refusal. The call belongs into `errors.missing_target`."""
        return self._inbox if name == "INBOX" and self._inbox is not None else self.path(name)

    async def target_place(self, name: str) -> Place:
        """The same, asking the core whether it exists. Raises Refusal with TRYCREATE (RFC 3501 7.1)."""
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
        """See that a folder exists, asking once for each name. Raises as `target_place`.

        Only the decision to begin depends on it: the call itself notices a folder that goes meanwhile.
        """
        if name not in self._targets:
            await self.target_place(name)
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            self._targets.add(name)
