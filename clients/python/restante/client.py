"""The native client: one user's mail, asynchronously.

    async with Client.connect("localhost:2051", root_certificates=pem, user=address, password=secret) as me:
        async for message in me.messages.query("INBOX", unread()):
            print(message.summary.subject)

`restante.sync_client` has the same calls for programs without an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from restante import errors
from restante.account import Account
from restante.batch import Batch
from restante.calls import Calls
from restante.changes import Changes
from restante.contents import Contents
from restante.directory import Directory
from restante.drafts import Drafts
from restante.folders import Folders
from restante.jobs import Jobs
from restante.link import CoreLink
from restante.mailboxes import Mailboxes
from restante.messages import Messages
from restante.methods import Method, Request, Response
from restante.queue import Queue
from restante.session import UserSession
from restante.submissions import Submissions
from restante.target import Target
from restante.unreachable import ServerUnreachable, explained, trouble
from restante.v1 import methods
from restante.v1.session_pb2 import GetServerRequest, GetServerResponse

__all__ = ["Client"]


class Client:
    """One user's session with a core. `mailboxes`, `folders`, `messages` and the others group the calls by subject.

    `execute` calls any unary RPC of the contract by its method: `await me.execute(methods.GET_FOLDER, request)`. Errors
    are classes of `restante.errors`. `asyncio.timeout` around any call cancels it at the server too.
    """

    def __init__(self, calls: Calls) -> None:
        """`calls` must have a session."""
        self.calls = calls
        self.account = Account(calls)
        self.directory = Directory(calls)
        self.mailboxes = Mailboxes(calls)
        self.folders = Folders(calls)
        self.contents = Contents(calls)
        self.messages = Messages(calls, self.folders, self.contents)
        self.drafts = Drafts(calls, self.folders, self.contents)
        self.submissions = Submissions(calls, self.contents)
        self.changes = Changes(calls, self.mailboxes, self.folders)
        self.jobs = Jobs(calls)
        self.queue = Queue(calls)

    @property
    def session(self) -> UserSession:
        """The session: its token, and its end."""
        return self.calls.session

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
        independent: bool = False,
    ) -> Response:
        """The response of any unary RPC. See `Calls.execute`."""
        return await self.calls.execute(method, request, timeout=timeout, independent=independent)

    def batch(self) -> Batch:
        """An empty batch: operations that travel in one request and may take fields from each other's responses."""
        return Batch(self.calls)

    async def server(self) -> GetServerResponse:
        """The server's version, its limits for requests and accounts, and the RPCs that it serves."""
        return await self.calls.execute(methods.GET_SERVER, GetServerRequest())

    def pages(
        self, method: Method[Request, Response], request: Request, *, timeout: float | None = None
    ) -> AsyncIterator[Response]:
        """Every page of a list. See `Calls.pages`."""
        return self.calls.pages(method, request, timeout=timeout)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        target: str | Target | Sequence[str | Target],
        *,
        user: str = "",
        password: str = "",
        token: bytes = b"",
        root_certificates: bytes | None = None,
        server_name: str = "",
        keep_password: bool = True,
        timeout_seconds: float = 30.0,
    ) -> AsyncIterator[Client]:
        """Log on with a password, or continue with a saved session token.

        `target` is "HOST:PORT" (TLS; `root_certificates`, PEM, replaces the system's roots), "dns:NAME:PORT" for all
        addresses of a name, or a Target. The client uses one of several targets at a time, and another when that
        one fails (see CoreLink).

        The client renews the session inside the context. After the session's longest life of a day, a kept password
        begins the next session. Leaving the context closes the connection but not the session: `log_off` ends that.

        Raises AuthenticationFailed, TooManyAttempts, SessionExpired, SessionRevoked, and after 5 seconds
        ServerUnreachable, which names the address and the cause.
        """
        targets = [
            each if isinstance(each, Target) else Target(each, None, root_certificates, server_name=server_name)
            for each in ([target] if isinstance(target, str | Target) else target)
        ]
        link = await CoreLink.connect(targets, patience_seconds=min(5.0, timeout_seconds))
        try:
            session = await cls._begun(link, user, password, token, keep_password, timeout_seconds)
            link.session = lambda: session.token
            session.keep_fresh()
            try:
                yield cls(Calls(link, session, timeout_seconds=timeout_seconds))
            finally:
                await session.close()
        finally:
            await link.close()

    @staticmethod
    async def _begun(
        link: CoreLink, user: str, password: str, token: bytes, keep_password: bool, timeout_seconds: float
    ) -> UserSession:
        try:
            if token:
                return await UserSession.resume(link, token, timeout=timeout_seconds)
            return await UserSession.log_on(link, user, password, keep_password=keep_password, timeout=timeout_seconds)
        except errors.UnknownReason as error:
            if error.status_code is not grpc.StatusCode.UNAVAILABLE:
                raise
            raise await explained(link.target, error) from error
        except errors.DeadlineExceeded as error:  # no answer at all: a firewall, or a server that hangs
            cause = await trouble(link.target)
            if not cause:
                raise
            raise ServerUnreachable(link.target.address, cause) from error
