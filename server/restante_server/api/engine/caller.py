"""Who calls, and what a handler is given with the request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante_process.addresses import limit_key
from restante_server.api.engine import access
from restante_server.db.turns import Party

if TYPE_CHECKING:
    from restante_server.api.engine.core import Core

Response = TypeVar("Response", bound=Message)

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_TIMEOUT_SECONDS = 600.0
NOBODY = "nobody:"  # begins the name of the party of those who have not logged on; their address follows


@dataclass(frozen=True, slots=True)
class Caller:
    """A proven caller: a session, a process with an identity of its own, a session that comes through one, or nobody.

    `identity` is "imap", "pop3", "smtp", "relay", "admin", or "" for a native client. Without a session
    `account_id`, `mailbox_id`, `session_id` and `scope` are 0.
    """

    identity: str = ""
    account_id: int = 0
    mailbox_id: int = 0
    scope: int = 0  # restante.v1.Scope
    session_id: int = 0
    credential_version: int = 0
    administrator: bool = False
    address: str = ""  # the account's, as spelled
    client_address: str = ""  # IP address as text, "" when unknown
    encrypted: bool = False  # the connection to this process is TLS, or does not leave the machine
    token: bytes = b""
    expires_at: int = 0  # of the token: microseconds since 1970-01-01 UTC

    @property
    def actor(self) -> str:
        """Who answers for the call, as request ids and the log name it: "account:7", "gateway:smtp" or "nobody"."""
        if self.account_id:
            return f"account:{self.account_id}"
        return f"gateway:{self.identity}" if self.identity else "nobody"

    @property
    def party(self) -> Party:
        """Whose work the call is, for turns and bounds: the account's over all its sessions, the process's, or, for
        those who have not logged on, their address's, of IPv6 the /64's, since hosts own that much."""
        if self.account_id:
            return Party(f"account:{self.account_id}")
        if self.identity:
            return Party(f"gateway:{self.identity}", many=True)
        return Party(NOBODY + (limit_key(self.client_address) if self.client_address else ""))


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one caller: what a handler works with."""

    core: Core
    caller: Caller
    now: int  # microseconds since 1970-01-01 UTC, when the call came
    deadline: float  # a moment of time.monotonic()

    def mailbox_id(self, requested: int) -> int:
        """The mailbox a request means, 0 standing for the session's own, once the caller's right to it is proven."""
        return access.mailbox_id(self.caller, requested)

    @property
    def seconds_left(self) -> float:
        """Until the deadline; negative when it has passed."""
        return self.deadline - time.monotonic()

    async def read(self, function: Callable[[Connection], Response | object]) -> object:
        """Run one function of a read snapshot on a worker thread, within the call's deadline."""
        return await self.core.db.read(function, deadline=self.deadline)

    async def write(
        self,
        request: Message,
        function: Callable[[Connection], Response],
        *,
        mailboxes: frozenset[int],
        rows: int = 1,
        octets: int = 0,
        contents: frozenset[int] = frozenset(),
    ) -> Response:
        """Run a handler's write in the pipeline: once per request_id, watchers told after the commit.

        For handlers that are not plain writes because something comes before, such as reading a content. `function`
        may run again, like any operation. A request that has no request_id just runs.
        """
        from restante_server.api.engine.writes import HandlerWrite  # it needs this module

        write: HandlerWrite[Response] = HandlerWrite(
            call=self,
            request=request,
            function=function,
            mailboxes=mailboxes,
            rows=rows,
            octets=octets,
            contents=contents,
        )
        return (await self.core.db.write(write, deadline=self.deadline)).response
