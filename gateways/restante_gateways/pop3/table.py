"""The table of POP3's verbs, and what a verb may ask of its session."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from restante_gateways.core import sasl
from restante_gateways.pop3.output import Output
from restante_gateways.pop3.protocol import Response
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.snapshot import Snapshot


class State(enum.Enum):
    """RFC 1939 3; there is no waiting in UPDATE."""

    AUTHORIZATION = enum.auto()
    TRANSACTION = enum.auto()


ANY = frozenset(State)
AUTHORIZATION = frozenset({State.AUTHORIZATION})
TRANSACTION = frozenset({State.TRANSACTION})


class Session(Protocol):
    """The session of a command."""

    user_name: bytes | None  # of USER, until PASS
    retrieved: int  # messages

    @property
    def output(self) -> Output:
        """The way to the client, for answers of several lines."""

    @property
    def mechanisms(self) -> Sequence[str]:
        """Of SASL."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""

    @property
    def may_start_tls(self) -> bool:
        """Whether STLS would work now."""

    @property
    def authentication_allowed(self) -> bool:
        """Whether credentials may cross the connection as it is now."""

    @property
    def snapshot(self) -> Snapshot:
        """The messages of the maildrop, in the TRANSACTION state."""

    @property
    def retriever(self) -> Retriever:
        """Their octets."""

    async def start_tls(self, go_ahead: bytes) -> None:
        """Says `go_ahead` and turns to TLS; nothing the client said in clear survives. Raises TlsFailed."""

    async def log_in(self, credentials: sasl.Secret) -> Response:
        """Logs in with name and password. Raises RestanteError."""

    async def exchange(self, mechanism: str, initial: bytes | None) -> Response:
        """Logs in by a SASL exchange with the client. Raises RestanteError."""

    def login_failed(self, response: Response) -> Response:
        """Counts a failed login; after a few the connection ends."""

    async def quit(self) -> Response:
        """Ends the session, and with it the messages marked as deleted."""


class Command(Protocol):
    """A command with its arguments understood."""

    async def run(self, s: Session) -> Response | None:
        """Obeys. Returns the response, or None when all of it has been written."""


@dataclass(frozen=True)
class Entry:
    """A verb's line in the table. `parse` raises Malformed."""

    verb: str
    states: frozenset[State]
    parse: Callable[[bytes], Command]


TABLE: dict[str, Entry] = {}


class Parsing(Protocol):
    """A class in the table: it makes a command from what stands behind the verb."""

    def parse(self, argument: bytes) -> Command:
        """Raises Malformed."""


C = TypeVar("C", bound=Parsing)


def command(verb: str, states: frozenset[State]) -> Callable[[C], C]:
    """Enters a class with a `parse` into the table."""

    def enter(cls: C) -> C:
        TABLE[verb] = Entry(verb, states, cls.parse)
        return cls

    return enter
