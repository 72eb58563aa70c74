"""The POP3 commands, one small class each, registered in the table."""

from __future__ import annotations

from dataclasses import dataclass

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
from restante_gateways.pop3.table import ANY, AUTHORIZATION, TRANSACTION, Session, command

MAX_LINES = 2_147_483_647  # of TOP
ALWAYS_CAPABLE = (
    "TOP",
    "UIDL",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "PIPELINING",
    "EXPIRE NEVER",
    "IMPLEMENTATION Restante",
)


def tls_required(s: Session) -> Response:
    """The refusal of authentication without TLS."""
    return negative(
        "authentication needs TLS, use STLS first"
        if s.may_start_tls
        else "authentication needs TLS, connect to the TLS port"
    )


@command("CAPA", ANY)
@dataclass(frozen=True)
class Capabilities:
    """List the current capabilities of the connection. RFC 2449 5 and 6."""

    @classmethod
    def parse(cls, argument: bytes) -> Capabilities:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        lines = list(ALWAYS_CAPABLE)
        if s.may_start_tls:
            lines.append("STLS")
        if s.authentication_allowed:
            lines += ["USER", f"SASL {' '.join(s.mechanisms)}"]
        s.output.write(bytes(positive("capabilities follow")))
        s.output.write_all(listing(line.encode("ascii") for line in lines))
        return None


@command("STLS", AUTHORIZATION)
@dataclass(frozen=True)
class StartTls:
    """Start TLS. RFC 2595 4."""

    @classmethod
    def parse(cls, argument: bytes) -> StartTls:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        if not s.may_start_tls:
            return negative("TLS is active already" if s.tls else "TLS is not available on this port")
        await s.start_tls(bytes(positive("begin the TLS handshake")))
        return None


@command("USER", AUTHORIZATION)
@dataclass(frozen=True)
class User:
    """Set the user's name. Existing and unknown names get the same response. RFC 1939 7."""

    name: bytes

    @classmethod
    def parse(cls, argument: bytes) -> User:
        if not argument.strip():
            raise Malformed("name expected")
        return cls(argument.strip(b" "))

    async def run(self, s: Session) -> Response | None:
        if not s.authentication_allowed:
            return tls_required(s)
        s.user_name = self.name
        return positive("send PASS")


@command("PASS", AUTHORIZATION)
@dataclass(frozen=True)
class Password:
    """Log in with the name of USER. Spaces belong to the password. RFC 1939 7."""

    password: sasl.Secret

    @classmethod
    def parse(cls, argument: bytes) -> Password:
        return cls(sasl.Secret(argument))

    async def run(self, s: Session) -> Response | None:
        if not s.authentication_allowed:
            return tls_required(s)
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
    """Run a SASL exchange; without argument list the mechanisms, for some clients. RFC 5034 4."""

    mechanism: str
    initial: sasl.Secret | None

    @classmethod
    def parse(cls, argument: bytes) -> Authenticate:
        mechanism, separator, initial = argument.strip(b" ").partition(b" ")
        return cls(mechanism.decode("ascii", "replace").upper(), sasl.Secret(initial) if separator else None)

    async def run(self, s: Session) -> Response | None:
        if not self.mechanism:
            s.output.write(bytes(positive("mechanisms follow")))
            s.output.write_all(listing(name.encode("ascii") for name in s.mechanisms))
            return None
        if not s.authentication_allowed:
            return tls_required(s)
        if self.mechanism not in s.mechanisms:
            return negative("mechanism not supported")
        return await s.exchange(self.mechanism, None if self.initial is None else self.initial.reveal())


@command("STAT", TRANSACTION)
@dataclass(frozen=True)
class Statistics:
    """Report the number of messages and octets. RFC 1939 5."""

    @classmethod
    def parse(cls, argument: bytes) -> Statistics:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        return positive(f"{s.snapshot.left_count} {s.snapshot.left_octets}")


@command("LIST", TRANSACTION)
@dataclass(frozen=True)
class List:
    """Report the sizes of one message or of all. RFC 1939 5."""

    number: int | None

    @classmethod
    def parse(cls, argument: bytes) -> List:
        return cls(number(argument) if argument.strip() else None)

    async def run(self, s: Session) -> Response | None:
        if self.number is not None:
            s.snapshot.check(self.number)
            return positive(f"{self.number} {s.snapshot.size(self.number)}")
        s.output.write(bytes(positive(f"{s.snapshot.left_count} messages ({s.snapshot.left_octets} octets)")))
        await s.output.stream(listing(s.snapshot.sizes()))
        return None


@command("UIDL", TRANSACTION)
@dataclass(frozen=True)
class UniqueIds:
    """Report the unique ids of one message or of all. RFC 1939 7."""

    number: int | None

    @classmethod
    def parse(cls, argument: bytes) -> UniqueIds:
        return cls(number(argument) if argument.strip() else None)

    async def run(self, s: Session) -> Response | None:
        if self.number is not None:
            s.snapshot.check(self.number)
            return positive(f"{self.number} {s.snapshot.unique_id(self.number).decode('ascii')}")
        s.output.write(bytes(positive("unique ids follow")))
        await s.output.stream(listing(s.snapshot.unique_ids()))
        return None


@command("RETR", TRANSACTION)
@dataclass(frozen=True)
class Retrieve:
    """Send a whole message. RFC 1939 5."""

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
            s.output.write(b"+OK %d octets\r\n" % cell.total + stuffed(cell.octets))
            return None
        stuffer = DotStuffer()
        s.output.write(b"+OK %d octets\r\n" % cell.total + stuffer.feed(cell.octets))
        await s.output.stream_message(s.retriever.rest(cell), stuffer)
        return None


@command("TOP", TRANSACTION)
@dataclass(frozen=True)
class Top:
    """Send the header and the first lines of the body. RFC 1939 7."""

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
        s.output.write(bytes(positive("top of message follows")) + stuffer.feed(first))
        await s.output.stream_message(octets, stuffer)
        return None


@command("DELE", TRANSACTION)
@dataclass(frozen=True)
class Delete:
    """Mark a message as deleted; QUIT removes it. RFC 1939 5."""

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
    """Remove all deletion marks. RFC 1939 5."""

    @classmethod
    def parse(cls, argument: bytes) -> Reset:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        s.snapshot.reset()
        await s.retriever.close()  # the walk leaves out messages that were marked
        return positive(f"{s.snapshot.left_count} messages")


@command("NOOP", TRANSACTION)
@dataclass(frozen=True)
class NoOperation:
    """Do nothing. RFC 1939 5."""

    @classmethod
    def parse(cls, argument: bytes) -> NoOperation:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        return positive("no operation")


@command("QUIT", ANY)
@dataclass(frozen=True)
class Quit:
    """Delete the marked messages, all or none, and end the session. RFC 1939 6."""

    @classmethod
    def parse(cls, argument: bytes) -> Quit:
        nothing(argument)
        return cls()

    async def run(self, s: Session) -> Response | None:
        return await s.quit()
