"""The operations of an Execute stream that have no answer yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.message import Message

from restante.errors import RestanteError
from restante.v1.batch_pb2 import Operation, Reference
from restante_server.api.engine.batch import Batch
from restante_server.api.engine.deadlines import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS
from restante_server.api.engine.pending import Pending
from restante_server.api.engine.references import Link
from restante_server.db.turns import Party


class Need(NamedTuple):
    """One reference of an operation, checked."""

    position: int  # in Operation.references
    flight: Flight  # the operation that it names
    link: Link


@dataclass(eq=False, slots=True)
class Flight:
    """One operation from its arrival to its answer."""

    operation_id: int
    field: str
    request: Any
    token: bytes
    client_address: str
    deadline: float
    independent: bool
    batch: Batch
    followed_mailbox_id: int
    followed_folder_id: int
    references: Sequence[Reference]
    problem: RestanteError | None = None  # a faulty reference
    needs: tuple[Need, ...] = ()  # references whose fields are not copied yet: the operation itself has not begun
    sent: bytes = b""  # fingerprint of the request before they are copied, if it has an id
    outcome: asyncio.Future[Message | None] | None = None  # for operations that refer to this one; None: no response
    followed_change_number: int = 0
    party: Party | None = None  # whose allowance counts the operation, until the client takes the answer
    task: asyncio.Task[Message] | Pending | None = None  # its response
    cancelled: bool = False

    @classmethod
    def of(cls, operation: Operation, batch: Batch, arrived: float) -> Flight:
        """The flight of an operation that arrived at a moment of `time.monotonic()`."""
        name = operation.WhichOneof("request")
        seconds = operation.timeout_milliseconds / 1_000 or DEFAULT_TIMEOUT_SECONDS
        return cls(
            operation_id=operation.operation_id,
            field=name or "",
            request=getattr(operation, name) if name else None,
            token=operation.session_token,
            client_address=operation.client_address,
            deadline=arrived + min(max(seconds, 0.0), MAX_TIMEOUT_SECONDS),
            independent=operation.independent,
            batch=batch,
            followed_mailbox_id=operation.followed_mailbox_id,
            followed_folder_id=operation.followed_folder_id,
            references=operation.references,
        )


@dataclass(eq=False, slots=True)
class Session:
    """The operations of one session on the stream. At most one ordered operation runs at a time.

    Operations without a token belong to many clients of the stream's caller, so they are all independent.
    """

    waiting: deque[Flight] = field(default_factory=deque)
    running: Flight | None = None
    in_flight: int = 0
