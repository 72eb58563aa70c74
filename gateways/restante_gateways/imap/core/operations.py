"""Operations of one account's session. Each call carries the session's current token."""

from __future__ import annotations

from collections.abc import AsyncIterator

from restante.execute import Followed
from restante.link import CoreLink
from restante.methods import Method, Request, Response
from restante.v1 import folder_pb2, message_pb2
from restante_gateways.core import streams
from restante_gateways.core.sessions import AccountSession
from restante_gateways.core.upload import Upload
from restante_gateways.imap.values import Place

CALL_SECONDS = 30.0


class Operations:
    """Calls to the core with the account of one connection."""

    __slots__ = ("_followed", "_link", "_session", "_stream_patience_seconds")

    def __init__(
        self, link: CoreLink, session: AccountSession, stream_patience_seconds: float = streams.PATIENCE_SECONDS
    ) -> None:
        self._link, self._session = link, session
        self._stream_patience_seconds = stream_patience_seconds
        self._followed: Followed | None = None

    @property
    def token(self) -> bytes:
        """The session's current token."""
        return self._session.token

    def follow(self, place: Place | None) -> None:
        """From here on, collect this folder's change number from every answer; None stops that.

        The number in an answer is as of its operation or later.
        """
        self._followed = None if place is None else Followed(place.mailbox_id, place.folder_id)

    @property
    def followed(self) -> Place | None:
        """The followed folder."""
        return None if self._followed is None else Place(self._followed.mailbox_id, self._followed.folder_id)

    @property
    def followed_change_number(self) -> int | None:
        """The followed folder's highest number in the answers so far, 0 before the first; None without a folder."""
        return None if self._followed is None else self._followed.change_number

    def note_change_number(self, change_number: int) -> None:
        """Record a change number of the followed folder that arrived by another way."""
        if self._followed is not None:
            self._followed.change_number = max(self._followed.change_number, change_number)

    async def run(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        follow: bool = True,
        seconds: float = CALL_SECONDS,
    ) -> Response:
        """Run one operation, with a time limit. Raises restante.errors.

        `follow`: the answer carries the followed folder's change number. Operations that return the folder's changes
        do without it.
        """
        return await self._link.execute(
            method,
            request,
            session=self._session.token,
            client_address=self._session.client_address,
            followed=self._followed if follow else None,
            timeout=seconds,
        )

    def open_folder(self, request: folder_pb2.OpenFolderRequest) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        """A snapshot of a folder, in pieces."""
        return self._link.open_folder(request, session=self._session.token, client_address=self._session.client_address)

    def stream_messages(
        self, request: message_pb2.StreamMessagesRequest
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """Rows of many messages, read by the core at the caller's pace. A broken stream is resumed."""
        return streams.messages(self._open_messages, request, self._stream_patience_seconds)

    def _open_messages(
        self, request: message_pb2.StreamMessagesRequest
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        return self._link.stream_messages(
            request, session=self._session.token, client_address=self._session.client_address
        )

    def upload(self) -> Upload:
        """Begin the upload of a message that is too large for an operation."""
        return Upload(self._link, lambda: self._session.token, self._session.client_address)
