"""The table of commands and of extensions: names, states, effects on announcements, words of CAPABILITY."""

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
    """One command, parsed. `run` answers with the status that is then sent with the tag, after all it produced."""

    async def run(self, s: Session) -> Status:
        """Carry the command out."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table."""

    name: str  # in capitals, `UID ` before those that take UIDs
    parse: Callable[[Parser], Command]
    states: State
    holds_numbers: bool  # no EXPUNGE may be told in answer to it (RFC 3501 7.4.1)
    tells: bool  # changes of the selected folder are told before its tagged answer
    opens: bool  # when it fails, no folder is selected any more (RFC 3501 6.3.1)
    takes_literal: bool  # it reads the literal that ends it by itself, and must take or refuse it


@dataclass(frozen=True, slots=True)
class Declined:
    """A command that names something that cannot be: it is answered NO without a call to the core."""

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
    """One line of CAPABILITY."""

    capability: str
    offered: State
    enable: Callable[[Session], bool] | None  # by ENABLE (RFC 5161); whether it was off before


_COMMANDS: dict[bytes, Entry] = {}
_EXTENSIONS: dict[str, Extension] = {}
_C = TypeVar("_C")


def command(
    *names: str,
    state: State,
    holds_numbers: bool = False,
    tells: bool = True,
    opens: bool = False,
    takes_literal: bool = False,
) -> Callable[[type[_C]], type[_C]]:
    """Register a command class under its names; those that begin with `UID ` never hold numbers."""

    def register(class_: type[_C]) -> type[_C]:
        parse: Callable[[Parser], Command] = class_.parse  # type: ignore[attr-defined]
        for name in names:
            held = holds_numbers and not name.startswith("UID ")
            _COMMANDS[name.encode("ascii")] = Entry(name, parse, state, held, tells, opens, takes_literal)
        return class_

    return register


def extension(capability: str, *, offered: State = LOGGED_IN, enable: Callable[[Session], bool] | None = None) -> None:
    """Offer an extension. The call stands beside the code that implements it."""
    _EXTENSIONS[capability] = Extension(capability, offered, enable)


def capabilities(state: State) -> list[str]:
    """The words of a state, IMAP4rev1 first; AUTH= and STARTTLS depend on the connection and are added there."""
    return ["IMAP4rev1", *(each.capability for each in _EXTENSIONS.values() if state in each.offered)]


def extensions() -> dict[str, Extension]:
    """All extensions, by capability."""
    return dict(_EXTENSIONS)


def entries() -> list[Entry]:
    """All commands."""
    return list(_COMMANDS.values())


class MissingTag(ParseError):
    """The line has no tag: the answer is `* BAD` (RFC 3501 7.1.3)."""


class BadCommand(ParseError):
    """The command is unknown or malformed; `tag` is there to answer with."""

    def __init__(self, tag: bytes, text: str) -> None:
        super().__init__(text)
        self.tag = tag


def read_entry(octets: bytes) -> tuple[bytes, Entry, Parser]:
    """The tag and the table's line of a command, and a parser that stands behind its name."""
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
    """The command in a whole text, if it is allowed now and well-formed. Raises BadCommand."""
    _check_state(tag, entry, state)
    try:
        command = entry.parse(p)
    except Refused as reason:
        return Declined(entry, reason, literal_waits=False)
    except ParseError as error:
        raise BadCommand(tag, str(error)) from error
    if entry.takes_literal:  # and no literal has come
        raise BadCommand(tag, "literal expected")
    return command


def read_ahead(tag: bytes, entry: Entry, p: Parser, state: State) -> Command | None:
    """The command before the literal that it reads by itself; None where the literal is a part of the command's text.

    A command that is wrong is answered before the client sends its literal in vain. Raises BadCommand.
    """
    _check_state(tag, entry, state)
    if not entry.takes_literal:
        return None
    try:
        return entry.parse(p)
    except CutShort:
        return None  # the literal of a name, before the one that the command reads
    except Refused as reason:
        return Declined(entry, reason, literal_waits=True)
    except ParseError as error:
        raise BadCommand(tag, str(error)) from error


def _check_state(tag: bytes, entry: Entry, state: State) -> None:
    if state not in entry.states:
        raise BadCommand(tag, f"{entry.name} is not allowed now")


def _verb(p: Parser, tag: bytes) -> bytes:
    try:
        return p.match(_VERB, "command")[0].upper()
    except ParseError as error:
        raise BadCommand(tag, "command expected") from error
