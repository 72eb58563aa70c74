"""Untagged responses about changes of the selected folder: after commands, and at once during IDLE."""

from __future__ import annotations

import asyncio

from restante_gateways.imap.client import Client
from restante_gateways.imap.grammar import condstore
from restante_gateways.imap.grammar.responses import OK
from restante_gateways.imap.view.session import SessionView
from restante_gateways.net.bounds import ConnectionLost


class Announcements:
    """The announcements of one connection."""

    __slots__ = ("_client", "_idling", "_later", "_view", "with_change_numbers")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._view: SessionView | None = None
        self._idling = False
        self._later: asyncio.Task[None] | None = None
        self.with_change_numbers = False  # CONDSTORE is on: every FETCH response with FLAGS carries MODSEQ

    def begin(self, view: SessionView) -> None:
        """Start announcing changes of a newly selected folder."""
        view.with_change_numbers = self.with_change_numbers
        self._view = view

    def end(self) -> None:
        """Stop announcing: the folder was closed."""
        self._view = None

    def close(self) -> None:
        """Cancel pending announcements: the connection ends."""
        self._idling = False
        if self._later is not None:
            self._later.cancel()

    def add_change_numbers(self) -> None:
        """Turn CONDSTORE on: every later response about flags carries the change number (RFC 7162 3.1).

        If a folder is selected, send its HIGHESTMODSEQ at once (RFC 7162 3.1.2.1).
        """
        if not self.with_change_numbers and self._view is not None:
            self._view.with_change_numbers = True
            self._client.write(condstore.highest(self._view.announced_change_number).encode())
        self.with_change_numbers = True

    async def announce(self, may_expunge: bool, with_uid: bool) -> None:
        """Announce all pending changes of the view. Raises ConnectionLost, Lapsed."""
        if self._view is not None:
            await self._client.write_blocks(self._view.announce(may_expunge, with_uid))

    def begin_idle(self) -> None:
        """Announce the view's pending changes now and every later change at once (RFC 2177 3)."""
        self._idling = True
        self.folder_changed()

    def end_idle(self) -> None:
        """Announce changes after commands only."""
        self._idling = False

    def folder_changed(self) -> None:
        """Handle a change of the view: announce it at once during IDLE, or when the write buffer has drained."""
        if self._view is None:
            return
        self._view.limit_lag()
        if not self._idling:
            return
        if self._client.connection.write_paused:
            if self._later is None:
                self._later = asyncio.get_running_loop().create_task(self._when_taken())
            return
        for block in self._view.announce(may_expunge=True):
            self._client.write(block)

    async def _when_taken(self) -> None:
        try:
            await self._client.flow()
        except ConnectionLost:
            return  # the session's own reading ends it
        finally:
            self._later = None
        self.folder_changed()

    def keep_alive(self) -> None:
        """During IDLE, send an untagged OK so that no NAT or firewall drops the connection as dead."""
        if self._idling and not self._client.connection.write_paused:
            self._client.write(OK("The connection is alive.").encode())
