"""The table of commands: names, states, what each may disturb, what each adds to CAPABILITY. *Pure.*"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from restante_gateways.imap.grammar.parser import ParseError, Parser, Refused
from restante_gateways.imap.grammar.responses import NO

if TYPE_CHECKING:
    from restante_gateways.imap.grammar.responses import Status
    from restante_gateways.imap.session import Session

_VERB = re.compile(rb"[A-Za-z0-9\-]{1,32}")


class State(enum.Flag):
    """Where a connection stands (RFC 3501 3)."""

    NOT_AUTHENTICATED = enum.auto()
    AUTHENTICATED = enum.auto()
    SELECTED = enum.auto()


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


@dataclass(frozen=True, slots=True)
class Declined:
    """A command that names something that cannot be: it is answered NO without a call to the core."""

    entry: Entry
    reason: Refused

    async def run(self, s: Session) -> Status:
        if self.entry.opens:
            s.deselect()
        return NO(f"{self.reason}.", self.reason.code)


_TABLE: dict[bytes, Entry] = {}
_CAPABILITIES: dict[str, State] = {}
_C = TypeVar("_C")


def command(
    *names: str,
    state: State,
    holds_numbers: bool = False,
    tells: bool = True,
    opens: bool = False,
    capability: str | Iterable[str] = (),
    offered: State = LOGGED_IN,
) -> Callable[[type[_C]], type[_C]]:
    """Register a command class under its names; those that begin with `UID ` never hold numbers."""

    def register(class_: type[_C]) -> type[_C]:
        parse: Callable[[Parser], Command] = class_.parse  # type: ignore[attr-defined]
        for name in names:
            held = holds_numbers and not name.startswith("UID ")
            _TABLE[name.encode("ascii")] = Entry(name, parse, state, held, tells, opens)
        for word in (capability,) if isinstance(capability, str) else capability:
            _CAPABILITIES[word] = offered
        return class_

    return register


def offer(*words: str, offered: State = LOGGED_IN) -> None:
    """Add to CAPABILITY what is no command of its own."""
    for word in words:
        _CAPABILITIES[word] = offered


def capabilities(state: State) -> list[str]:
    """What is offered in a state, IMAP4rev1 first; AUTH= and STARTTLS depend on the connection and are added there."""
    return ["IMAP4rev1", *(word for word, offered in _CAPABILITIES.items() if state in offered)]


def entries() -> list[Entry]:
    """All registered commands."""
    return list(_TABLE.values())


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
    entry = _TABLE.get(name)
    if entry is None:
        raise BadCommand(tag, "unknown command")
    return tag, entry, p


def _verb(p: Parser, tag: bytes) -> bytes:
    try:
        return p.match(_VERB, "command")[0].upper()
    except ParseError as error:
        raise BadCommand(tag, "command expected") from error
