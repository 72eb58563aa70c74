"""The session as its commands see it."""

from __future__ import annotations

import enum
from typing import Protocol

from restante_gateways.core.login import Verify
from restante_gateways.imap.account import Account
from restante_gateways.imap.announcements import Announcements
from restante_gateways.imap.client import Client
from restante_gateways.imap.core.login import NewSession
from restante_gateways.imap.selected import SelectedFolder
from restante_gateways.imap.values import Folder


class State(enum.Flag):
    """The state of a connection (RFC 3501 3)."""

    NOT_AUTHENTICATED = enum.auto()
    AUTHENTICATED = enum.auto()
    SELECTED = enum.auto()


class Connected(Protocol):
    """In every state."""

    tag: bytes  # of the command under way
    client: Client

    def capability_text(self) -> bytes:
        """The words of CAPABILITY on this connection, now."""
        ...

    def close_after_answer(self) -> None:
        """LOGOUT: the tagged answer is the last response."""
        ...


class Guest(Connected, Protocol):
    """Before login."""

    mechanisms: tuple[str, ...]  # of SASL, as the core offers them to this client

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS is offered."""
        ...

    def start_tls_after_answer(self) -> None:
        """STARTTLS: the handshake follows the tagged answer."""
        ...

    @property
    def may_authenticate(self) -> bool:
        """Whether credentials may cross this connection as it is."""
        ...

    @property
    def verify(self) -> Verify:
        """Puts credentials of this client to the core."""
        ...

    def logged_in(self, session: NewSession) -> None:
        """The core has accepted the client."""
        ...

    def login_failed(self) -> None:
        """The core has refused the client's credentials; after a few times the session ends."""
        ...


class User(Connected, Protocol):
    """After login."""

    announcements: Announcements
    selected: SelectedFolder | None

    @property
    def account(self) -> Account:
        """The account."""
        ...

    @property
    def folder(self) -> SelectedFolder:
        """The selected folder; only in state SELECTED."""
        ...

    async def select(self, folder: Folder, read_only: bool) -> SelectedFolder:
        """Open a folder; the one selected before was closed. Raises restante.errors, with nothing selected."""
        ...

    def deselect(self) -> None:
        """Close the selected folder, if there is one."""
        ...

    def unclaimed_uid(self, folder: Folder) -> int:
        """Lowest UID not yet reported as \\Recent, as far as this process knows."""
        ...


class Session(Guest, User, Protocol):
    """The whole; a command uses the part of its states."""
