"""One IMAP connection, from its greeting to its end. It executes commands one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from restante import errors
from restante_gateways.core.login import Verify
from restante_gateways.imap.account import Account
from restante_gateways.imap.announcements import Announcements
from restante_gateways.imap.client import Client, SessionOver
from restante_gateways.imap.commands import table
from restante_gateways.imap.commands.session import State
from restante_gateways.imap.commands.table import BadCommand, Entry
from restante_gateways.imap.core.login import NewSession, verify_for
from restante_gateways.imap.errors import SESSION_IS_OVER, Refusal, ends_session, is_temporary, status_of
from restante_gateways.imap.grammar.framing import Command, Event, LiteralStart, TooLong
from restante_gateways.imap.grammar.parser import ParseError
from restante_gateways.imap.grammar.responses import BAD, BYE, NO, OK, Status
from restante_gateways.imap.selected import SelectedFolder
from restante_gateways.imap.shared import Shared
from restante_gateways.imap.values import Folder, FolderPath
from restante_gateways.imap.view.departed import Lapsed
from restante_gateways.net.authentication import authentication_allowed
from restante_gateways.net.bounds import ConnectionLost, Draining, TimedOut
from restante_gateways.net.connection import Connection

_BEFORE_LOGIN_SECONDS = 60.0
_MAX_LOGIN_TRIES = 3
_MAX_BAD_IN_A_ROW = 20
_YIELD_COMMANDS = 8  # before the task yields to other sessions


class Session:
    """One connection. Its commands run one after the other, so that none sees a partial state (RFC 3501 5.5)."""

    __slots__ = (
        "_account",
        "_bad_in_a_row",
        "_closing",
        "_commands",
        "_log",
        "_login_tries",
        "_reads",
        "_shared",
        "_starting_tls",
        "announcements",
        "client",
        "mechanisms",
        "selected",
        "tag",
    )

    def __init__(self, shared: Shared, connection: Connection) -> None:
        self._shared = shared
        self.client = Client(connection)
        self.announcements = Announcements(self.client)
        self.selected: SelectedFolder | None = None
        self.mechanisms: tuple[str, ...] = ()
        self.tag = b"*"  # of the current command
        self._account: Account | None = None
        self._starting_tls = self._closing = False
        self._login_tries = self._bad_in_a_row = self._commands = 0
        self._reads = 0  # of the client, when the selected folder's change number was last wanted
        self._log = shared.session_log(connection.peer)

    # --- the conversation ---

    async def run(self) -> None:
        """Serve the connection until it ends. Handles every Interruption, lost connections included."""
        client = self.client
        client.connection.set_deadline(_BEFORE_LOGIN_SECONDS)
        try:
            self.mechanisms = await self._shared.mechanisms(client.peer)
            client.write(OK("Restante is ready.", b"CAPABILITY " + self.capability_text()).encode())
            while not self._closing and (event := await client.next_event()) is not None:
                await self._handle(event)
        except Draining:
            client.write(BYE("The server is shutting down; connect again later.", b"UNAVAILABLE").encode())
        except TimedOut:
            client.write(BYE("The connection was idle for too long.").encode())
        except SessionOver as over:
            client.write(BYE(over.text).encode())
        except Lapsed:
            client.write(BYE("Another session removed messages that can no longer be read; connect again.").encode())
        except ConnectionLost:
            pass  # nobody receives a BYE
        finally:
            self._leave()

    async def _handle(self, event: Event) -> None:
        match event:
            case Command(octets):
                await self._command(octets)
            case LiteralStart():
                await self._literal(event)
            case TooLong(tag, literal):
                refusal = (
                    NO("The literal is larger than the server accepts.", b"TOOBIG")
                    if literal
                    else BAD("The line is too long.")
                )
                self.client.write(refusal.encode(tag or b"*"))
            case _:
                raise AssertionError(f"{event!r} outside of a literal")

    async def _command(self, octets: bytes) -> None:
        try:
            tag, entry, p = table.read_entry(octets)
            command = table.read_command(tag, entry, p, self.state)
        except ParseError as error:
            self._bad(error)
        else:
            await self._carry_out(tag, entry, command.run(self))

    async def _literal(self, literal: LiteralStart) -> None:
        """Run a command that streams its literal (APPEND), or make the literal a part of its command's text."""
        try:
            tag, entry, p = table.read_entry(literal.prefix)
            command = table.read_ahead(tag, entry, p, self.state)
        except ParseError as error:
            self.client.refuse_literal()
            self._bad(error)
            return
        if command is not None:
            await self._carry_out(tag, entry, command.run(self))
        elif literal.keepable:
            self.client.keep_literal()
        else:
            self.client.refuse_literal()
            self.client.write(BAD("The literal is larger than this command may have.").encode(tag))

    def _bad(self, error: ParseError) -> None:
        """Answer BAD. Raises SessionOver after too many in a row."""
        tag = error.tag if isinstance(error, BadCommand) else b"*"
        self.client.write(BAD(f"{error}.").encode(tag))
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _MAX_BAD_IN_A_ROW:
            raise SessionOver("Too many invalid commands.")

    async def _carry_out(self, tag: bytes, entry: Entry, work: Awaitable[Status]) -> None:
        """Run a command, announce changes if it permits that, then answer with its tag."""
        started = time.perf_counter()
        self.tag, self._bad_in_a_row = tag, 0
        if self.selected is not None:
            # A command that had arrived together with the one before may use the change number which that one was told.
            self.selected.follow(keep=self.client.reads == self._reads)
            self._reads = self.client.reads
        try:
            status = await work
        except Refusal as refusal:
            status = refusal.status
        except errors.RestanteError as error:
            status = self._failed(error)
        if entry.announces and self.selected is not None:
            await self.selected.catch_up_if_possible()
            await self.announcements.announce(not entry.holds_numbers, with_uid=entry.name.startswith("UID "))
        self.client.write(status.encode(tag))
        self._shared.finished(self._log, entry.name, status, time.perf_counter() - started)
        if self.client.over is not None:
            raise SessionOver(self.client.over)
        if self._starting_tls:
            await self._start_tls()
        await self.client.flow()
        self._commands += 1
        if self._commands % _YIELD_COMMANDS == 0:
            await asyncio.sleep(0)  # pipelined commands without a call to the core would block all other sessions

    def _failed(self, error: errors.RestanteError) -> Status:
        """The status of a command that the core refused or could not take. Some errors also end the session."""
        if self._account is not None and ends_session(error):
            self.client.over = SESSION_IS_OVER
        if self.selected is not None and is_temporary(error):
            self.selected.core_is_away()
        return status_of(error)

    def _leave(self) -> None:
        self.announcements.close()
        self.deselect()
        self._shared.announced.discard(self.announcements)
        if self._account is not None:
            self._account.session.close()

    # --- for commands: the protocols in commands/session.py ---

    @property
    def state(self) -> State:
        """The state of the connection (RFC 3501 3)."""
        if self._account is None:
            return State.NOT_AUTHENTICATED
        return State.AUTHENTICATED if self.selected is None else State.SELECTED

    def close_after_answer(self) -> None:
        self._closing = True

    def capability_text(self) -> bytes:
        words = table.capabilities(self.state)
        if self._account is None:
            if self.may_start_tls:
                words.append("STARTTLS")
            words += [f"AUTH={name}" for name in self.mechanisms] if self.may_authenticate else ["LOGINDISABLED"]
        return " ".join(words).encode("ascii")

    @property
    def may_start_tls(self) -> bool:
        return self.client.peer.starttls and self.client.peer.tls is None

    def start_tls_after_answer(self) -> None:
        self._starting_tls = True

    async def _start_tls(self) -> None:
        self._starting_tls = False
        self.client.forget_input()
        await self.client.connection.start_tls(self._shared.tls_context())
        self.mechanisms = await self._shared.mechanisms(self.client.peer)

    @property
    def may_authenticate(self) -> bool:
        peer = self.client.peer
        return authentication_allowed(self._shared.authentication, tls=peer.tls is not None, loopback=peer.loopback)

    @property
    def verify(self) -> Verify:
        return verify_for(self._shared.link, self.client.peer)

    def login_failed(self) -> None:
        self._login_tries += 1
        if self._login_tries >= _MAX_LOGIN_TRIES:
            self.client.over = "Too many failed logins."

    def logged_in(self, session: NewSession) -> None:
        kept = self._shared.accounts.keep(session, self.client.peer.client.host, self._session_ended)
        self._account = Account(self._shared.link, kept, self._shared.stream_patience_seconds)
        self.client.logged_in(self._shared.limits_after_login, self._shared.idle_timeout_seconds)
        self._log.authenticated(kept.address)
        self._shared.announced.add(self.announcements)

    def _session_ended(self, _: errors.RestanteError) -> None:
        self.client.end(SESSION_IS_OVER)

    @property
    def account(self) -> Account:
        assert self._account is not None
        return self._account

    @property
    def folder(self) -> SelectedFolder:
        assert self.selected is not None
        return self.selected

    async def select(self, named: FolderPath, read_only: bool) -> SelectedFolder:
        self.selected = await SelectedFolder.open(
            self.account, self.client, self.announcements, self._shared.folders, named, read_only
        )
        return self.selected

    def deselect(self) -> None:
        selected, self.selected = self.selected, None
        if selected is not None:
            selected.close()

    async def describe(self, named: FolderPath, *, with_recent: bool) -> Folder:
        return await self._shared.folders.describe(self.account.folders, named, with_recent=with_recent)

    def unclaimed_uid(self, folder: Folder) -> int:
        return self._shared.folders.unclaimed_uid(folder)
