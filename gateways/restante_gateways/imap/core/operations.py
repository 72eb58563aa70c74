"""Operations of one account's session. Each carries the session's own token of the moment."""

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
    """Calls to the core as one account, one connection's."""

    __slots__ = ("_followed", "_link", "_session")

    def __init__(self, link: CoreLink, session: AccountSession) -> None:
        self._link, self._session = link, session
        self._followed: Followed | None = None

    @property
    def token(self) -> bytes:
        """The session token of this moment."""
        return self._session.token

    def follow(self, place: Place | None) -> None:
        """From here on, answers tell how far a view of this folder must be, as of their operation or later."""
        self._followed = None if place is None else Followed(place.mailbox_id, place.folder_id)

    @property
    def followed_change_number(self) -> int | None:
        """The followed folder's number by the answers so far, 0 before the first; None: no folder is followed."""
        return None if self._followed is None else self._followed.change_number

    def note_change_number(self, change_number: int) -> None:
        """The followed folder is known to be as far as this."""
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
        """One operation, which may take so long. Raises restante.errors.

        `follow`: its answer tells how far the view of the followed folder must be. Not for those that answer with the
        folder's changes.
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
        """Rows of many messages; the core reads on only as they are taken. A stream that breaks goes on."""
        return streams.messages(self._open_messages, request)

    def _open_messages(
        self, request: message_pb2.StreamMessagesRequest
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        return self._link.stream_messages(
            request, session=self._session.token, client_address=self._session.client_address
        )

    def upload(self) -> Upload:
        """A message that is too large for an operation, on its way."""
        return Upload(self._link, lambda: self._session.token, self._session.client_address)
