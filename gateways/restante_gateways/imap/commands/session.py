"""The protocols of a session that its commands use."""

from __future__ import annotations

import enum
from typing import Protocol

from restante_gateways.core.login import Verify
from restante_gateways.imap.account import Account
from restante_gateways.imap.announcements import Announcements
from restante_gateways.imap.client import Client
from restante_gateways.imap.core.login import NewSession
from restante_gateways.imap.selected import SelectedFolder
from restante_gateways.imap.values import Folder, FolderPath


class State(enum.Flag):
    """The state of a connection (RFC 3501 3)."""

    NOT_AUTHENTICATED = enum.auto()
    AUTHENTICATED = enum.auto()
    SELECTED = enum.auto()


class Connected(Protocol):
    """The session in every state."""

    tag: bytes  # of the current command
    client: Client

    def capability_text(self) -> bytes:
        """The current capabilities of this connection."""
        ...

    def close_after_answer(self) -> None:
        """End the connection after the tagged response (LOGOUT)."""
        ...


class Unauthenticated(Connected, Protocol):
    """The session before login."""

    mechanisms: tuple[str, ...]  # SASL mechanisms that the core offers to this client

    @property
    def may_start_tls(self) -> bool:
        """Whether STARTTLS is offered."""
        ...

    def start_tls_after_answer(self) -> None:
        """Start the TLS handshake after the tagged response (STARTTLS)."""
        ...

    @property
    def may_authenticate(self) -> bool:
        """Whether the connection is secure enough for credentials."""
        ...

    @property
    def verify(self) -> Verify:
        """The function that has the core verify this client's credentials."""
        ...

    def logged_in(self, session: NewSession) -> None:
        """Enter the authenticated state with the session that the core has opened."""
        ...

    def login_failed(self) -> None:
        """Count a login that the core refused; after a few the session ends."""
        ...


class User(Connected, Protocol):
    """The session after login."""

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

    async def select(self, named: FolderPath, read_only: bool) -> SelectedFolder:
        """Open a folder; call `deselect` first. Raises restante.errors, with nothing selected."""
        ...

    async def describe(self, named: FolderPath, *, with_recent: bool) -> Folder:
        """A folder with its counts as of now, without its role. `with_recent`: `unclaimed_uid` must be as of now, too.

        Raises restante.errors.
        """
        ...

    def deselect(self) -> None:
        """Close the selected folder, if there is one."""
        ...

    def unclaimed_uid(self, folder: Folder) -> int:
        """The lowest UID not yet reported as \\Recent, to the knowledge of this process."""
        ...


class Session(Unauthenticated, User, Protocol):
    """The session in all states. A command uses only the part of its own states."""
