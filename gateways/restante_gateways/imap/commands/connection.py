"""Commands about the connection: CAPABILITY, NOOP, LOGOUT, ID, ENABLE (RFC 3501 6.1; RFC 2971; RFC 5161)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import ANY, LOGGED_IN, command, extension, extensions
from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import BYE, OK, Status, untagged

_NIL = re.compile(rb"(?i)NIL")


@command("CAPABILITY", state=ANY, announces=False)
@dataclass(frozen=True)
class Capability:
    """List the capabilities of this connection now. RFC 3501 6.1.1."""

    @classmethod
    def parse(cls, p: Parser) -> Capability:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        s.client.write(untagged(b"CAPABILITY " + s.capability_text()))
        return OK("CAPABILITY completed.")


@command("NOOP", state=ANY)
@dataclass(frozen=True)
class Noop:
    """Do nothing but announce changes. RFC 3501 6.1.2."""

    @classmethod
    def parse(cls, p: Parser) -> Noop:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        return OK("NOOP completed.")


@command("LOGOUT", state=ANY, announces=False)
@dataclass(frozen=True)
class Logout:
    """End the connection. RFC 3501 6.1.3."""

    @classmethod
    def parse(cls, p: Parser) -> Logout:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        s.client.write(BYE("Logging out.").encode())
        s.close_after_answer()
        return OK("LOGOUT completed.")


extension("ID", offered=ANY)


@command("ID", state=ANY)
@dataclass(frozen=True)
class Id:
    """Exchange names of client and server. RFC 2971 3.1. The command reader limits the size of the client's fields."""

    fields: tuple[tuple[bytes, bytes | None], ...]

    @classmethod
    def parse(cls, p: Parser) -> Id:
        p.sp()
        fields: list[tuple[bytes, bytes | None]] = []
        if not p.accept(b"("):
            p.match(_NIL, "list or NIL")
        else:
            while not p.accept(b")"):
                if fields:
                    p.sp()
                name = p.string()
                value = p.sp().nstring()
                fields.append((name, value))
        p.end()
        return cls(tuple(fields))

    async def run(self, s: Session) -> Status:
        # No version is sent: only logged-in clients could need it, and none does.
        s.client.write(untagged(b"ID (" + encoder.string(b"name") + b" " + encoder.string(b"Restante") + b")"))
        return OK("ID completed.")


extension("ENABLE")


@command("ENABLE", state=LOGGED_IN)
@dataclass(frozen=True)
class Enable:
    """Switch extensions on; ignore unknown ones. RFC 5161 3.1."""

    words: tuple[bytes, ...]

    @classmethod
    def parse(cls, p: Parser) -> Enable:
        words = []
        while not p.at_end:
            words.append(p.sp().word())
        if not words:
            raise ParseError("extension expected")
        return cls(tuple(words))

    async def run(self, s: Session) -> Status:
        enabled = []
        for word in dict.fromkeys(self.words):
            known = extensions().get(word.decode("ascii"))
            if known is not None and known.enable is not None and known.enable(s):
                enabled.append(word)
        s.client.write(untagged(b" ".join([b"ENABLED", *enabled])))
        return OK("ENABLE completed.")
