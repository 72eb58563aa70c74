"""The link to the core, as far as the gateways that serve users ask it; `restante.link.CoreLink` is one."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Protocol

from restante.keeper import Link as Operations
from restante.v1 import content_pb2, sync_pb2

OnSessionsEnded = Callable[[sync_pb2.SessionsEnded], None]


class Watch(Protocol):
    """The process's Watch stream."""

    def on_sessions_ended(self, listener: OnSessionsEnded) -> None:
        """Call `listener` with every announcement of ended sessions."""
        ...

    def on_resumed(self, listener: Callable[[], None]) -> None:
        """Call `listener` after a gap in which announcements may have been lost."""
        ...


class Uploads(Protocol):
    """Contents that are too large for one operation."""

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        """One upload. Raises RestanteError."""
        ...


__all__ = ["OnSessionsEnded", "Operations", "Uploads", "Watch"]
