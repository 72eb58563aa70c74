"""CONDSTORE in commands and responses (RFC 7162 3.1, 7). *Pure.*

A mod-sequence is the message's change number. `commands/condstore.py` registers the extension.
"""

from __future__ import annotations

from collections.abc import Iterable

from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import OK, Status
from restante_gateways.imap.grammar.search_keys import SearchAnd, SearchKey, SearchModSeq, SearchNot, SearchOr
from restante_gateways.imap.grammar.sets import encode_ranges
from restante_mail.ranges import Range

CAPABILITY = "CONDSTORE"
_MAX_CHANGE_NUMBER = (1 << 63) - 1


def change_number(p: Parser) -> int:
    """A mod-sequence value, 63 bits, zero included (RFC 7162 7)."""
    return p.number(highest=_MAX_CHANGE_NUMBER)


def select_parameter(p: Parser) -> bool:
    """Parse an optional ` (CONDSTORE)` at the end of SELECT and EXAMINE (RFC 7162 3.1.8)."""
    words = [] if p.at_end else p.sp().parenthesised_words()
    if set(words) - {b"CONDSTORE"}:
        raise ParseError("unknown parameter")
    return bool(words)


def changed_since(p: Parser) -> int | None:
    """Parse an optional ` (CHANGEDSINCE 7)` at the end of FETCH (RFC 7162 3.1.4.1)."""
    return None if p.at_end else _modifier(p.sp().expect(b"("), b"CHANGEDSINCE")


def unchanged_since(p: Parser) -> int | None:
    """Parse an optional `(UNCHANGEDSINCE 7) ` before the flags of STORE (RFC 7162 3.1.3)."""
    if not p.accept(b"("):
        return None
    number = _modifier(p, b"UNCHANGEDSINCE")
    p.sp()
    return number


def _modifier(p: Parser, name: bytes) -> int:
    """Parse `CHANGEDSINCE 7)`, the modifier after its opening parenthesis."""
    if p.word() != name:
        raise ParseError(f"{name.decode('ascii')} expected")
    number = change_number(p.sp())
    p.expect(b")")
    return number


def search_key(p: Parser) -> SearchModSeq:
    """Parse the rest of a MODSEQ key (RFC 7162 3.1.5).

    The entry name of a single flag is ignored: a message has one change number for all its flags.
    """
    if p.sp().sees(b'"'):
        p.string()
        if p.sp().word() not in (b"PRIV", b"SHARED", b"ALL"):
            raise ParseError("entry type expected")
        p.sp()
    return SearchModSeq(change_number(p))


def is_in(key: SearchKey) -> bool:
    """Whether the tree contains a MODSEQ key: the response then carries the highest number (RFC 7162 3.1.5)."""
    match key:
        case SearchModSeq():
            return True
        case SearchAnd(keys):
            return any(map(is_in, keys))
        case SearchOr(first, second):
            return is_in(first) or is_in(second)
        case SearchNot(inner):
            return is_in(inner)
    return False


def highest(number: int) -> Status:
    """HIGHESTMODSEQ: the client has all changes of the selected folder up to this number (RFC 7162 3.1.2.1).

    The response never has 0.
    """
    return OK("Highest mod-sequence.", b"HIGHESTMODSEQ %d" % max(1, number))


def modified(messages: Iterable[Range]) -> bytes:
    """The MODIFIED code: the messages that a conditional STORE left unchanged (RFC 7162 3.1.3)."""
    return b"MODIFIED " + encode_ranges(messages)
