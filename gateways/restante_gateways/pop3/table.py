"""The table of POP3 commands, and the protocol of the session that they use."""

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
    """The state of a session (RFC 1939 3). The UPDATE state is part of QUIT."""

    AUTHORIZATION = enum.auto()
    TRANSACTION = enum.auto()


ANY = frozenset(State)
AUTHORIZATION = frozenset({State.AUTHORIZATION})
TRANSACTION = frozenset({State.TRANSACTION})


class Session(Protocol):
    """The session for its commands."""

    user_name: bytes | None  # from USER, until PASS
    retrieved: int  # messages retrieved so far

    @property
    def output(self) -> Output:
        """The output for multi-line responses."""

    @property
    def mechanisms(self) -> Sequence[str]:
        """The SASL mechanisms."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""

    @property
    def may_start_tls(self) -> bool:
        """Whether STLS is possible now."""

    @property
    def authentication_allowed(self) -> bool:
        """Whether the connection is currently secure enough for credentials."""

    @property
    def snapshot(self) -> Snapshot:
        """The messages of the maildrop, in the TRANSACTION state."""

    @property
    def retriever(self) -> Retriever:
        """The reader of the messages' octets."""

    async def start_tls(self, go_ahead: bytes) -> None:
        """Send `go_ahead`, discard all input received in clear, and start TLS. Raises TlsFailed."""

    async def log_in(self, credentials: sasl.Secret) -> Response:
        """Log in with name and password. Raises RestanteError."""

    async def exchange(self, mechanism: str, initial: bytes | None) -> Response:
        """Log in by a SASL exchange with the client. Raises RestanteError."""

    def login_failed(self, response: Response) -> Response:
        """Count a failed login; after a few the connection ends. Return the response."""

    async def quit(self) -> Response:
        """End the session and delete the marked messages."""


class Command(Protocol):
    """A parsed command."""

    async def run(self, s: Session) -> Response | None:
        """Execute the command. Return the response, or None if it is written already."""


@dataclass(frozen=True)
class Entry:
    """One command of the table. `parse` raises Malformed."""

    verb: str
    states: frozenset[State]
    parse: Callable[[bytes], Command]


TABLE: dict[str, Entry] = {}


class Parsing(Protocol):
    """A command class, which parses the argument after the verb."""

    def parse(self, argument: bytes) -> Command:
        """Parse a command's argument. Raises Malformed."""


C = TypeVar("C", bound=Parsing)


def command(verb: str, states: frozenset[State]) -> Callable[[C], C]:
    """Register a command class."""

    def enter(cls: C) -> C:
        TABLE[verb] = Entry(verb, states, cls.parse)
        return cls

    return enter
