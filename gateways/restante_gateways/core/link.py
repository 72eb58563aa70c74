"""Protocols of the link to the core, for gateways that serve users; `restante.link.CoreLink` implements them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Protocol

from restante.keeper import Link as Operations
from restante.v1 import content_pb2, sync_pb2

OnSessionsEnded = Callable[[sync_pb2.SessionsEnded], None]


class Watch(Protocol):
    """The process's Watch stream."""

    def on_sessions_ended(self, listener: OnSessionsEnded) -> None:
        """Call `listener` with every notice of ended sessions."""
        ...

    def on_resumed(self, listener: Callable[[], None]) -> None:
        """Call `listener` after a gap in which notices may have been lost."""
        ...


class Uploads(Protocol):
    """Uploads of contents that are too large for one operation."""

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        """Run one upload. Raises RestanteError."""
        ...


__all__ = ["OnSessionsEnded", "Operations", "Uploads", "Watch"]
