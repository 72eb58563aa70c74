"""The tables of commands and extensions: names, states, rules for announcements, capabilities."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from restante_gateways.imap.commands.session import Session, State
from restante_gateways.imap.grammar.parser import CutShort, ParseError, Parser, Refused
from restante_gateways.imap.grammar.responses import NO, Status

_VERB = re.compile(rb"[A-Za-z0-9\-]{1,32}")

NOT_AUTHENTICATED = State.NOT_AUTHENTICATED
LOGGED_IN = State.AUTHENTICATED | State.SELECTED
SELECTED = State.SELECTED
ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED


class Command(Protocol):
    """One parsed command. `run` returns the status for the tagged response, which follows all its untagged ones."""

    async def run(self, s: Session) -> Status:
        """Execute the command."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the table."""

    name: str  # in capitals; variants that take UIDs begin with `UID `
    parse: Callable[[Parser], Command]
    states: State
    holds_numbers: bool  # no EXPUNGE response may be sent during it (RFC 3501 7.4.1)
    announces: bool  # changes of the selected folder are announced before its tagged response
    opens: bool  # a failure leaves no folder selected (RFC 3501 6.3.1)
    takes_literal: bool  # its class reads its last literal as a stream, and must accept or refuse it


@dataclass(frozen=True, slots=True)
class Declined:
    """A well-formed command with an impossible argument. The answer is NO, without a call to the core."""

    entry: Entry
    reason: Refused
    literal_waits: bool

    async def run(self, s: Session) -> Status:
        if self.literal_waits:
            s.client.refuse_literal()
        if self.entry.opens:
            s.deselect()
        return NO(f"{self.reason}.", self.reason.code)


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension of the table."""

    capability: str
    offered: State
    enable: Callable[[Session], bool] | None  # called by ENABLE (RFC 5161); returns whether it was off before


_COMMANDS: dict[bytes, Entry] = {}
_EXTENSIONS: dict[str, Extension] = {}
_C = TypeVar("_C")


def command(
    *names: str,
    state: State,
    holds_numbers: bool = False,
    announces: bool = True,
    opens: bool = False,
    takes_literal: bool = False,
) -> Callable[[type[_C]], type[_C]]:
    """Register a command class under its names. `holds_numbers` does not apply to names that begin with `UID `."""

    def register(class_: type[_C]) -> type[_C]:
        parse: Callable[[Parser], Command] = class_.parse  # type: ignore[attr-defined]
        for name in names:
            held = holds_numbers and not name.startswith("UID ")
            _COMMANDS[name.encode("ascii")] = Entry(name, parse, state, held, announces, opens, takes_literal)
        return class_

    return register


def extension(capability: str, *, offered: State = LOGGED_IN, enable: Callable[[Session], bool] | None = None) -> None:
    """Register an extension. The module that implements it makes this call."""
    _EXTENSIONS[capability] = Extension(capability, offered, enable)


def capabilities(state: State) -> list[str]:
    """The capabilities in a state, IMAP4rev1 first. The session adds AUTH= and STARTTLS, which vary by connection."""
    return ["IMAP4rev1", *(each.capability for each in _EXTENSIONS.values() if state in each.offered)]


def extensions() -> dict[str, Extension]:
    """All extensions, by capability."""
    return dict(_EXTENSIONS)


def entries() -> list[Entry]:
    """All commands."""
    return list(_COMMANDS.values())


class MissingTag(ParseError):
    """The line has no tag; the answer is `* BAD` (RFC 3501 7.1.3)."""


class BadCommand(ParseError):
    """The command is unknown or malformed; `tag` is its tag."""

    def __init__(self, tag: bytes, text: str) -> None:
        super().__init__(text)
        self.tag = tag


def read_entry(octets: bytes) -> tuple[bytes, Entry, Parser]:
    """The tag and table entry of a command, and a parser positioned after its name. Raises MissingTag, BadCommand."""
    p = Parser(octets)
    try:
        tag = p.tag()
        p.sp()
    except ParseError as error:
        raise MissingTag("tag expected") from error
    name = _verb(p, tag)
    if name == b"UID" and p.accept(b" "):
        p.uid, name = True, b"UID " + _verb(p, tag)
    entry = _COMMANDS.get(name)
    if entry is None:
        raise BadCommand(tag, "unknown command")
    return tag, entry, p


def read_command(tag: bytes, entry: Entry, p: Parser, state: State) -> Command:
    """Parse a complete command. Raises BadCommand if it is malformed or not allowed in this state."""
    _check_state(tag, entry, state)
    try:
        command = entry.parse(p)
    except Refused as reason:
        return Declined(entry, reason, literal_waits=False)
    except ParseError as error:
        raise BadCommand(tag, str(error)) from error
    if entry.takes_literal:  # a complete text has no streamed literal
        raise BadCommand(tag, "literal expected")
    return command


def read_ahead(tag: bytes, entry: Entry, p: Parser, state: State) -> Command | None:
    """Parse a command up to the literal that it streams; None if the literal is a part of the command's text.

    Raises BadCommand for a wrong command, before the client sends its literal in vain.
    """
    _check_state(tag, entry, state)
    if not entry.takes_literal:
        return None
    try:
        return entry.parse(p)
    except CutShort:
        return None  # the literal is an earlier argument, such as a folder name
    except Refused as reason:
        return Declined(entry, reason, literal_waits=True)
    except ParseError as error:
        raise BadCommand(tag, str(error)) from error


def _check_state(tag: bytes, entry: Entry, state: State) -> None:
    if state not in entry.states:
        raise BadCommand(tag, f"{entry.name} is not allowed in this state")


def _verb(p: Parser, tag: bytes) -> bytes:
    try:
        return p.match(_VERB, "command")[0].upper()
    except ParseError as error:
        raise BadCommand(tag, "command expected") from error
