"""The verbs of POP3: one small class each, in a table."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from restante_gateways.core import sasl
from restante_gateways.pop3.protocol import (
    DotStuffer,
    Malformed,
    Response,
    listing,
    negative,
    nothing,
    number,
    positive,
    stuffed,
)

if TYPE_CHECKING:
    from restante_gateways.pop3.session import Session

MAX_LINES = 2_147_483_647


class State(enum.Enum):
    """RFC 1939 3; there is no waiting in UPDATE."""

    AUTHORIZATION = enum.auto()
    TRANSACTION = enum.auto()


ANY = frozenset(State)
AUTHORIZATION = frozenset({State.AUTHORIZATION})
TRANSACTION = frozenset({State.TRANSACTION})


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


@command("CAPA", ANY)
@dataclass(frozen=True)
class Capabilities:
    """What holds on this connection now. RFC 2449 5."""

    @classmethod
    def parse(cls, argument: bytes) -> Capabilities:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        s.write(bytes(positive("capabilities follow")))
        s.write_all(listing(line.encode("ascii") for line in s.capabilities()))
        return None


@command("STLS", AUTHORIZATION)
@dataclass(frozen=True)
class StartTls:
    """Turns to TLS. RFC 2595 4."""

    @classmethod
    def parse(cls, argument: bytes) -> StartTls:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        if not s.may_start_tls:
            return negative("TLS is active already" if s.connection.peer.tls else "no TLS on this port")
        await s.start_tls(bytes(positive("begin TLS")))
        return None


@command("USER", AUTHORIZATION)
@dataclass(frozen=True)
class User:
    """Names the maildrop; says nothing of whether there is one. RFC 1939 7."""

    name: bytes

    @classmethod
    def parse(cls, argument: bytes) -> User:
        if not argument.strip():
            raise Malformed("name expected")
        return cls(argument.strip(b" "))

    async def run(self, s: Session) -> Response | None:
        if not s.authentication_allowed:
            return s.tls_wanted
        s.user_name = self.name
        return positive("send PASS")


@command("PASS", AUTHORIZATION)
@dataclass(frozen=True)
class Password:
    """Logs in with the name of USER. Spaces belong to the password. RFC 1939 7."""

    password: sasl.Secret

    @classmethod
    def parse(cls, argument: bytes) -> Password:
        return cls(sasl.Secret(argument))

    async def run(self, s: Session) -> Response | None:
        if not s.authentication_allowed:
            return s.tls_wanted
        name, s.user_name = s.user_name, None
        if name is None:
            return negative("send USER first")
        try:
            message = sasl.plain(name, self.password.reveal())
        except sasl.MalformedResponse:
            return s.login_failed(negative("authentication failed", "AUTH"))
        return await s.log_in(message)


@command("AUTH", AUTHORIZATION)
@dataclass(frozen=True)
class Authenticate:
    """A SASL exchange, or without argument the list of mechanisms, as some clients ask. RFC 5034 4."""

    mechanism: str
    initial: sasl.Secret | None

    @classmethod
    def parse(cls, argument: bytes) -> Authenticate:
        mechanism, separator, initial = argument.strip(b" ").partition(b" ")
        return cls(mechanism.decode("ascii", "replace").upper(), sasl.Secret(initial) if separator else None)

    async def run(self, s: Session) -> Response | None:
        if not self.mechanism:
            s.write(bytes(positive("mechanisms follow")))
            s.write_all(listing(name.encode("ascii") for name in s.mechanisms))
            return None
        if not s.authentication_allowed:
            return s.tls_wanted
        if self.mechanism not in s.mechanisms:
            return negative("mechanism not supported")
        return await s.exchange(self.mechanism, None if self.initial is None else self.initial.reveal())


@command("STAT", TRANSACTION)
@dataclass(frozen=True)
class Statistics:
    """How many messages and octets there are. RFC 1939 5."""

    @classmethod
    def parse(cls, argument: bytes) -> Statistics:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        return positive(f"{s.snapshot.left_count} {s.snapshot.left_octets}")


@command("LIST", TRANSACTION)
@dataclass(frozen=True)
class List:
    """Sizes of one message or of all. RFC 1939 5."""

    number: int | None

    @classmethod
    def parse(cls, argument: bytes) -> List:
        return cls(number(argument) if argument.strip() else None)

    async def run(self, s: Session) -> Response | None:
        if self.number is not None:
            s.snapshot.check(self.number)
            return positive(f"{self.number} {s.snapshot.size(self.number)}")
        s.write(bytes(positive(f"{s.snapshot.left_count} messages ({s.snapshot.left_octets} octets)")))
        await s.stream(listing(s.snapshot.sizes()))
        return None


@command("UIDL", TRANSACTION)
@dataclass(frozen=True)
class UniqueIds:
    """Unique ids of one message or of all. RFC 1939 7."""

    number: int | None

    @classmethod
    def parse(cls, argument: bytes) -> UniqueIds:
        return cls(number(argument) if argument.strip() else None)

    async def run(self, s: Session) -> Response | None:
        if self.number is not None:
            s.snapshot.check(self.number)
            return positive(f"{self.number} {s.snapshot.unique_id(self.number).decode('ascii')}")
        s.write(bytes(positive("unique ids follow")))
        await s.stream(listing(s.snapshot.unique_ids()))
        return None


@command("RETR", TRANSACTION)
@dataclass(frozen=True)
class Retrieve:
    """A whole message. RFC 1939 5."""

    number: int

    @classmethod
    def parse(cls, argument: bytes) -> Retrieve:
        return cls(number(argument))

    async def run(self, s: Session) -> Response | None:
        s.snapshot.check(self.number)
        cell = await s.retriever.find(self.number)
        s.snapshot.see(self.number)
        s.retrieved += 1
        if cell.whole:
            s.write(b"+OK %d octets\r\n" % cell.total + stuffed(cell.octets))
            return None
        stuffer = DotStuffer()
        s.write(b"+OK %d octets\r\n" % cell.total + stuffer.feed(cell.octets))
        await s.stream_message(s.retriever.rest(cell), stuffer)
        return None


@command("TOP", TRANSACTION)
@dataclass(frozen=True)
class Top:
    """The header and the first lines of the body. RFC 1939 7."""

    number: int
    lines: int

    @classmethod
    def parse(cls, argument: bytes) -> Top:
        words = argument.split()
        if len(words) != 2:
            raise Malformed("message number and number of lines expected")
        return cls(number(words[0]), min(number(words[1], what="number of lines", least=0), MAX_LINES))

    async def run(self, s: Session) -> Response | None:
        s.snapshot.check(self.number)
        octets = s.retriever.top(self.number, self.lines)
        first = await anext(octets, b"")
        stuffer = DotStuffer()
        s.write(bytes(positive("top of message follows")) + stuffer.feed(first))
        await s.stream_message(octets, stuffer)
        return None


@command("DELE", TRANSACTION)
@dataclass(frozen=True)
class Delete:
    """Marks a message; it goes at QUIT. RFC 1939 5."""

    number: int

    @classmethod
    def parse(cls, argument: bytes) -> Delete:
        return cls(number(argument))

    async def run(self, s: Session) -> Response | None:
        s.snapshot.delete(self.number)
        return DELETED


DELETED = positive("marked")


@command("RSET", TRANSACTION)
@dataclass(frozen=True)
class Reset:
    """Takes all marks away. RFC 1939 5."""

    @classmethod
    def parse(cls, argument: bytes) -> Reset:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        s.snapshot.reset()
        await s.retriever.close()  # the walk left out what was marked
        return positive(f"{s.snapshot.left_count} messages")


@command("NOOP", TRANSACTION)
@dataclass(frozen=True)
class NoOperation:
    """Does nothing. RFC 1939 5."""

    @classmethod
    def parse(cls, argument: bytes) -> NoOperation:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        return positive("nothing done")


@command("QUIT", ANY)
@dataclass(frozen=True)
class Quit:
    """Deletes what is marked, all or nothing, and ends the session. RFC 1939 6."""

    @classmethod
    def parse(cls, argument: bytes) -> Quit:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        return await s.quit()
