"""Who a submitted message says it is from: one reading, or none. *Pure.*

Whoever may send in one name could otherwise show another to a recipient whose program reads the header differently from
ours. A header is therefore refused (InvalidContent) unless all of this holds; what mail programs write passes.

1. Every line is a field (`name:`, no white space before the colon) or a fold of one; a fold has more than white space.
   The header ends with a blank line or with the message.
2. Fields that RFC 5322 3.6 and RFC 2045 allow once are there at most once: the first and the last are the same.
   From is there exactly once, with at least one author; with several there is a Sender (3.6.2).
3. From, Sender, Resent-From and Resent-Sender are plain lists of mailboxes: no groups, no comments, no routes, no empty
   places, no obsolete forms (RFC 5322 4), no control characters. Sender has exactly one.
4. An address is a dot-atom or quoted string, "@", and a domain or literal, without white space; no encoded word in it
   (RFC 2047 5); beyond ASCII it is UTF-8 (RFC 6532).
5. A name is atoms, dots, quoted strings and encoded words. Neither a quoted string nor what an encoded word stands for
   has angle brackets or control characters, and an encoded word stands for no "@": some programs decode before they
   look for the address, others take the first brackets they see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from restante.errors import InvalidContent
from restante_server.mime.edits import header_end
from restante_server.mime.limits import DEFAULT_LIMITS
from restante_server.mime.words import decode_words

ONCE = frozenset(
    b"from sender reply-to to cc bcc subject date message-id in-reply-to references mime-version content-type "
    b"content-transfer-encoding content-disposition content-id content-description return-path".split()
)
AUTHORS = (b"from", b"sender", b"resent-from", b"resent-sender")
MAX_AUTHORS = 100

_LINE = re.compile(rb"([!-9;-~]+):(.*)", re.DOTALL)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\x80-\x9f]")
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,70}\?[bBqQ]\?[^?\s]*\?=")
_ATOM_CHARACTERS = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a0-\U0010ffff-"
_ATOM = rf"[{_ATOM_CHARACTERS}]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LOCAL_PART = rf"(?:[{_ATOM_CHARACTERS}.]+|{_QUOTED})"  # dots anywhere, as addresses have them that providers gave out
_ADDR_SPEC = re.compile(rf"{_LOCAL_PART}@(?:{_ATOM}(?:\.{_ATOM})*|\[[0-9A-Za-z.:]+\])")
_NAME = re.compile(rf"[ \t]*+((?:(?:{_ATOM}|\.|{_QUOTED})[ \t]*+)*+)<")
_SPACE = re.compile(r"[ \t]*+")
_WORD = re.compile(rf"{_QUOTED}|{_ATOM}")
_MISLEADING = re.compile("[<>@\x00-\x1f\x7f]")
_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Authorship:
    """The addresses that a header speaks for, as spelled, with the field that has each."""

    claims: tuple[tuple[str, str], ...]  # (field, address): From, then Sender, then Resent-...


def authorship(content: bytes) -> Authorship:
    """Read the header at the start of `content`. Raises InvalidContent, which tells the problem."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in _fields(content[: header_end(content)]):
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        if len(values) > 1 and name in ONCE:
            _refuse(f"{len(values)} fields {name.decode()}")
    if b"from" not in found:
        _refuse("no From field")
    claims: list[tuple[str, str]] = []
    for name in AUTHORS:
        for value in found.get(name, ()):
            field = name.decode().title()
            listed = _mailboxes(field, value)
            if name.endswith(b"sender") and len(listed) != 1:
                _refuse(f"{field} must have one address")
            claims += [(field, address) for address in listed]
    if sum(field == "From" for field, _ in claims) > 1 and b"sender" not in found:
        _refuse("several authors and no Sender")
    return Authorship(tuple(claims))


def _refuse(problem: str) -> NoReturn:
    raise InvalidContent(problem=problem)


def _fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """(lower-case name, unfolded value) of every field; rule 1."""
    if len(block) > DEFAULT_LIMITS.header_octets:
        _refuse(f"a header of more than {DEFAULT_LIMITS.header_octets} octets")
    found: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(block.removesuffix(b"\r\n").removesuffix(b"\r\n").split(b"\r\n"), 1):
        if line[:1] in (b" ", b"\t"):
            if not found or not line.strip(b" \t"):
                _refuse(f"header line {number} is blank or continues nothing")
            name, value = found[-1]
            found[-1] = (name, value + line)
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            _refuse(f"header line {number} is no field")
        found.append((match[1].lower(), match[2]))
    return found


def _mailboxes(field: str, value: bytes) -> list[str]:
    """The addresses of a field; rules 3 to 5."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        _refuse(f"{field} is neither ASCII nor UTF-8")
    if _CONTROL.search(text):
        _refuse(f"{field} has control characters")
    listed: list[str] = []
    at, more = 0, True
    while more:
        if len(listed) >= MAX_AUTHORS:
            _refuse(f"{field} has more than {MAX_AUTHORS} addresses")
        address, at = _mailbox(field, text, at)
        listed.append(address)
        at = _after_space(text, at)
        more = at < len(text)
        if more and text[at] != ",":
            _refuse(f"{field} has something after an address")
        at += 1
    return listed


def _mailbox(field: str, text: str, at: int) -> tuple[str, int]:
    """One mailbox from `at`: (its address, where it ends)."""
    named = _NAME.match(text, at)
    start = named.end() if named is not None else _after_space(text, at)
    found = _ADDR_SPEC.match(text, start)
    if found is None:
        _refuse(f"{field} is no plain list of addresses")
    if _ENCODED_WORD.search(found[0]):
        _refuse(f"{field} has an encoded word in an address")
    if named is None:
        return found[0], found.end()
    if text[found.end() : found.end() + 1] != ">":
        _refuse(f"{field} has an address without its closing bracket")
    _judge_name(field, named[1])
    return found[0], found.end() + 1


def _judge_name(field: str, name: str) -> None:
    """Rule 5, of the words before an address."""
    for word in _WORD.findall(name):
        shown = _PAIR.sub(r"\1", word[1:-1]) if word.startswith('"') else word
        if word.startswith('"') and ("<" in shown or ">" in shown):
            _refuse(f"{field} has angle brackets in a name")
        for encoded in _ENCODED_WORD.findall(shown):
            if _MISLEADING.search(decode_words(encoded)):
                _refuse(f"{field} has an encoded name that could be read as an address")
        if "=?" in _ENCODED_WORD.sub("", shown):
            _refuse(f"{field} has what only some would take for an encoded word")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
