"""What a session asks of the core: operations, streams, folders by name. Every call carries the session's own token."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

from restante import errors
from restante.execute import Followed
from restante.link import CoreLink
from restante.methods import Method, Request, Response
from restante.v1 import folder_pb2, message_pb2, methods
from restante_gateways.core.upload import Upload
from restante_gateways.imap.errors import TRY_CREATE, Refusal
from restante_gateways.imap.grammar.responses import NO
from restante_gateways.imap.identity import Identity
from restante_gateways.imap.listing import full_name
from restante_gateways.net.connection import Connection, ConnectionLost

_PAGE = 1_000
_CALL_SECONDS = 30.0
_GLANCE_SECONDS = 0.1  # between two looks at whether the client of a long call is there
_SIGN_OF_LIFE_SECONDS = 10.0  # in a long call the client is told that it goes on
_PROBES = 5  # signs of life, one at each look, for a client that sends no more: a reset may come back
_MOST_TARGETS = 100  # names kept


class CoreCalls:
    """The part of a session that speaks to the core."""

    __slots__ = ("_link", "_over", "connection", "followed", "identity")

    def __init__(self, link: CoreLink, connection: Connection) -> None:
        self._link, self.connection = link, connection
        self._over: str | None = None  # why the session must end, for the client
        self.identity: Identity | None = None  # whose session it is, after login
        self.followed: Followed | None = None  # the selected folder, as answers to the command under way tell of it

    async def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        follow: bool = True,
        seconds: float = _CALL_SECONDS,
    ) -> Response:
        """One operation of this session, which may take so long. Raises restante.errors.

        `follow`: its answer tells how far the view of the selected folder must be. Not for those that answer with the
        folder's changes.
        """
        assert self.identity is not None
        return await self._link.execute(
            method,
            request,
            session=self.identity.token,
            client_address=self.identity.client_address,
            followed=self.followed if follow else None,
            timeout=seconds,
        )

    async def long_call(
        self, method: Method[Request, Response], request: Request, *, seconds: float, sign: bytes
    ) -> Response:
        """One operation that may take its time, cancelled as soon as the client is gone or the session over.

        Raises ConnectionLost, SessionRevoked.

        `sign` is a response that says that the call goes on. A client that sends no more may still listen; only what
        is written to it shows whether it does.
        """
        working = asyncio.ensure_future(self.call(method, request, seconds=seconds))
        loop, connection = asyncio.get_running_loop(), self.connection
        sign_at, probes = loop.time() + _SIGN_OF_LIFE_SECONDS, _PROBES
        try:
            while not (await asyncio.wait([working], timeout=_GLANCE_SECONDS))[0]:
                if connection.lost:
                    raise ConnectionLost
                if self._over is not None:
                    raise errors.SessionRevoked
                probing = connection.ended and probes > 0
                if probing or loop.time() >= sign_at:
                    connection.write(sign)
                    sign_at, probes = loop.time() + _SIGN_OF_LIFE_SECONDS, probes - probing
            return working.result()
        finally:
            working.cancel()

    def token(self) -> bytes:
        """The session token of this moment; none once the session is over."""
        return b"" if self.identity is None else self.identity.token

    def open_folder(self, request: folder_pb2.OpenFolderRequest) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        """The snapshot stream of this session."""
        return self._link.open_folder(request, session=self.token(), client_address=self.connection.peer.client.host)

    def stream_messages(
        self, request: message_pb2.StreamMessagesRequest
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """The rows of many messages; the core reads on only as they are taken."""
        return self._link.stream_messages(
            request, session=self.token(), client_address=self.connection.peer.client.host
        )

    def upload(self) -> Upload:
        """A message that is too large for an operation, on its way."""
        return Upload(self._link, self.token, self.connection.peer.client.host)

    @staticmethod
    def request_id() -> bytes:
        """A fresh name for one logical call."""
        return secrets.token_bytes(16)

    @staticmethod
    def path(name: str) -> list[str]:
        """The levels of a name. Raises Refusal for one that has an empty level."""
        levels = name.split("/")
        if not all(levels):
            raise Refusal(NO("That cannot be the name of a folder.", b"CANNOT"))
        return levels

    async def folder(self, name: str) -> folder_pb2.Folder:
        """A folder by its full name. Raises FolderNotFound, Refusal."""
        request = folder_pb2.GetFolderRequest(path=self.path(name))
        return (await self.call(methods.GET_FOLDER, request)).folder

    async def target_folder(self, name: str) -> int:
        """The id of the folder that something is put into. Raises Refusal with TRYCREATE (RFC 3501 7.1)."""
        assert self.identity is not None
        if name == "INBOX" and self.identity.inbox_id:
            return self.identity.inbox_id
        try:
            folder = await self.folder(name)
        except errors.FolderNotFound:
            raise Refusal(TRY_CREATE) from None
        if name == "INBOX":
            self.identity.inbox_id = folder.folder_id  # it can be neither deleted nor renamed
        return folder.folder_id

    def target(self, name: str) -> tuple[int, list[str]]:
        """The folder that something is put into, for a request that takes (id, path). Raises Refusal.

        The call belongs into `errors.missing_target`.
        """
        assert self.identity is not None
        if name == "INBOX" and self.identity.inbox_id:
            return self.identity.inbox_id, []
        return 0, self.path(name)

    async def expect_target(self, name: str) -> None:
        """See that a folder is there, asking once for each name. Raises as `target_folder`.

        Only whether it is worth beginning depends on it: a folder that goes meanwhile is noticed by the call itself.
        """
        assert self.identity is not None
        if name not in self.identity.targets:
            await self.target_folder(name)
            if len(self.identity.targets) >= _MOST_TARGETS:
                self.identity.targets.clear()
            self.identity.targets.add(name)

    async def all_folders(self) -> list[folder_pb2.Folder]:
        """Every folder of the mailbox, parents before children."""
        folders: list[folder_pb2.Folder] = []
        request = folder_pb2.ListFoldersRequest(page_size=_PAGE)
        while True:
            page = await self.call(methods.LIST_FOLDERS, request)
            folders.extend(page.folders)
            if not page.next_page_token:
                return folders
            request = folder_pb2.ListFoldersRequest(page_size=_PAGE, page_token=page.next_page_token)

    async def subscriptions(self) -> frozenset[str]:
        """Every subscribed name."""
        names: set[str] = set()
        request = folder_pb2.ListSubscriptionsRequest(page_size=_PAGE)
        while True:
            page = await self.call(methods.LIST_SUBSCRIPTIONS, request)
            names.update(full_name(entry.path) for entry in page.subscriptions)
            if not page.next_page_token:
                return frozenset(names)
            request = folder_pb2.ListSubscriptionsRequest(page_size=_PAGE, page_token=page.next_page_token)
