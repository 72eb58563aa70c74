"""The authors that a submitted message claims: one unambiguous reading, or a refusal. *Pure.*

Mail clients read an ambiguous header in different ways, so a sender could show a recipient a name that it may not use.
This module therefore refuses a header (InvalidContent, naming the field) that breaks one of these rules. The headers
that mail programs write obey them.

1. Every line is a field (`name:`, no white space before the colon) or a fold of one; a fold has more than white space.
   The header ends with a blank line or with the message.
2. The fields of ONCE, which give the author, the content and its presentation, occur at most once, so that readers of
   the first and of the last agree. From has at least one author; several authors need a Sender (RFC 5322 3.6.2). A
   missing From is allowed: the sender's own address is added later. Other fields that RFC 5322 3.6 allows once (To, Cc,
   Bcc, References, ...) may be repeated: scripts do so, and it misleads no reader.
3. From, Sender, Resent-From and Resent-Sender are plain lists of mailboxes: no groups, no routes, no empty elements, no
   obsolete forms (RFC 5322 4), no control characters; at most one comment, behind the mailbox. Sender has exactly one.
4. An address is a local part of atoms and dots or a quoted string, "@", and a domain or literal, without white space;
   it has no encoded word (RFC 2047 5); a non-ASCII address is UTF-8 (RFC 6532).
5. A name consists of atoms, dots, quoted strings and encoded words; a comment counts as one. Neither a quoted string
   nor a decoded encoded word has angle brackets or control characters: some mail clients decode before they look for
   the address, others take the first brackets in the text.
6. An address within a name, in whatever encoding, is one of the claims, because mail clients show it as the author's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from restante.errors import InvalidContent
from restante_mail.header.fields import header_end
from restante_mail.header.words import decode_words
from restante_mail.limits import DEFAULT_LIMITS

ONCE = frozenset(
    b"from sender reply-to subject date message-id content-type content-transfer-encoding content-disposition".split()
)
AUTHORS, RESENDERS = (b"from", b"sender"), (b"resent-from", b"resent-sender")
RESENT_TO = (b"resent-to", b"resent-cc", b"resent-bcc")
MAX_AUTHORS = 100

_LINE = re.compile(rb"([!-9;-~]+):(.*)", re.DOTALL)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\x80-\x9f]")
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,70}\?[bBqQ]\?[^?\s]*\?=")
_ENCODED_RUN = re.compile(rf"{_ENCODED_WORD.pattern}(?:[ \t]+{_ENCODED_WORD.pattern})*")
_ATOM_CHARACTERS = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a0-\U0010ffff-"
_ATOM = rf"[{_ATOM_CHARACTERS}]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LOCAL_PART = rf"(?:[{_ATOM_CHARACTERS}.]+|{_QUOTED})"  # dots anywhere, as in addresses that some providers assigned
_ADDR_SPEC = re.compile(rf"{_LOCAL_PART}@(?:{_ATOM}(?:\.{_ATOM})*|\[[0-9A-Za-z.:]+\])")
_NAME = re.compile(rf"[ \t]*+((?:(?:{_ATOM}|\.|{_QUOTED})[ \t]*+)*+)<")
_COMMENT = re.compile(r"[ \t]*+\(((?:[^()\\]|\\.)*+)\)")
_SPACE = re.compile(r"[ \t]*+")
_WORD = re.compile(rf"{_QUOTED}|{_ATOM}")
_MISLEADING = re.compile("[<>\x00-\x1f\x7f]")
_PAIR = re.compile(r"\\(.)")
_NO_DELIMITER = r"[^\s<>()\[\]\",;:@]"
_LIKE_AN_ADDRESS = re.compile(rf"(?<!{_NO_DELIMITER}){_NO_DELIMITER}++@{_NO_DELIMITER}+\.{_NO_DELIMITER}+")
_AROUND_AN_ADDRESS = ".'`\u2018\u2019"
_NUMBERS = {2: "two", 3: "three"}
_SPELLED = {b"message-id": "Message-ID"}

Claim = tuple[str, str]
"""(field, address)."""


@dataclass(frozen=True, slots=True)
class Authorship:
    """The authors that a header claims, as spelled, each with its field."""

    claims: tuple[Claim, ...]  # must be the sender's own: From and Sender, or Resent-From and Resent-Sender
    originals: tuple[Claim, ...] = ()  # From and Sender of a resent message
    is_resent: bool = False  # RFC 5322 3.6.6
    resent_to: tuple[str, ...] = ()  # values of Resent-To, Resent-Cc and Resent-Bcc, one octet a character


def authorship(content: bytes) -> Authorship:
    """Read the header at the start of `content`. Raises InvalidContent with the field and the problem."""
    fields = _fields(content[: header_end(content)])
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        if len(values) > 1 and name in ONCE:
            _refuse_repeated(name, len(values))
    block = _latest_resending(fields)
    authors = tuple(_claims(found, AUTHORS))
    if sum(field == "From" for field, _ in authors) > 1 and b"sender" not in found:
        _refuse("From has several authors, so the message needs a Sender field")
    resenders = tuple(_claims(block, RESENDERS))
    if b"resent-from" not in block:
        return Authorship(authors + resenders)
    if b"from" not in found:
        _refuse("the message has a Resent-From field but no From field")
    to = tuple(value.decode("latin-1") for name in RESENT_TO for value in block.get(name, ()))
    return Authorship(resenders, authors, is_resent=True, resent_to=to)


def _refuse(problem: str) -> NoReturn:
    raise InvalidContent(problem=problem)


def _refuse_repeated(name: bytes, count: int) -> NoReturn:
    _refuse(f"{_NUMBERS.get(count, str(count))} {_spelled(name)} fields")


def _spelled(name: bytes) -> str:
    return _SPELLED.get(name) or name.decode().title()


def _fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """(lower-case name, unfolded value) of every field; rule 1."""
    if len(block) > DEFAULT_LIMITS.header_octets:
        _refuse(f"the header has more than {DEFAULT_LIMITS.header_octets} octets")
    found: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(block.removesuffix(b"\r\n").removesuffix(b"\r\n").split(b"\r\n"), 1):
        if line[:1] in (b" ", b"\t"):
            if not found or not line.strip(b" \t"):
                _refuse(f"header line {number} begins with white space, but is blank or has no field above it")
            name, value = found[-1]
            found[-1] = (name, value + line)
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            if block in (b"", b"\r\n"):
                break  # a message without a header
            _refuse(f"header line {number} is not a header field")
        found.append((match[1].lower(), match[2]))
    return found


def _latest_resending(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """The first block of adjacent Resent fields: each resending adds its block above all others (RFC 5322 3.6.6)."""
    start = next((at for at, (name, _) in enumerate(fields) if name.startswith(b"resent-")), len(fields))
    block: dict[bytes, list[bytes]] = {}
    for name, value in fields[start:]:
        if not name.startswith(b"resent-"):
            break
        block.setdefault(name, []).append(value)
    for name in RESENDERS:
        if len(block.get(name, ())) > 1:
            _refuse_repeated(name, len(block[name]))
    if block and b"resent-from" not in block and any(name == b"resent-from" for name, _ in fields):
        _refuse("the newest block of Resent fields has no Resent-From")
    return block


def _claims(found: dict[bytes, list[bytes]], names: Sequence[bytes]) -> Iterator[Claim]:
    for name in names:
        for value in found.get(name, ()):
            field = _spelled(name)
            listed = _mailboxes(field, value)
            if name.endswith(b"sender") and sum(claimed == field for claimed, _ in listed) != 1:
                _refuse(f"{field} must have exactly one address")
            yield from listed


def _mailboxes(field: str, value: bytes) -> list[Claim]:
    """The addresses of a field and of the names in it; rules 3 to 6."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        _refuse(f"{field} is neither ASCII nor UTF-8")
    if _CONTROL.search(text):
        _refuse(f"{field} has control characters")
    if not text.strip(" \t"):
        _refuse(f"{field} is empty")
    claims: list[Claim] = []
    at, more, count = 0, True, 0
    while more:
        if count >= MAX_AUTHORS:
            _refuse(f"{field} has more than {MAX_AUTHORS} addresses")
        address, names, at = _mailbox(field, text, at)
        claims.append((field, address))
        claims += [(f"{field} (name)", other) for name in names for other in _addresses_in(field, name, address)]
        at, count = _after_space(text, at), count + 1
        more = at < len(text)
        if more and text[at] != ",":
            _refuse(f"{field} has text after an address where a comma must follow")
        at += 1
    return claims


def _mailbox(field: str, text: str, at: int) -> tuple[str, list[str], int]:
    """One mailbox from `at`: (its address, its display names, the position behind it)."""
    named = _NAME.match(text, at)
    start = named.end() if named is not None else _after_space(text, at)
    found = _ADDR_SPEC.match(text, start)
    if found is None:
        _refuse(f"{field} is not a plain list of addresses")
    if _ENCODED_WORD.search(found[0]):
        _refuse(f"{field} has an encoded word in an address")
    end, names = found.end(), []
    if named is not None:
        if text[end : end + 1] != ">":
            _refuse(f"{field} has an address without a closing angle bracket")
        end, names = end + 1, [named[1]]
    if (comment := _COMMENT.match(text, end)) is not None:
        end, names = comment.end(), [*names, f'"{comment[1].replace(chr(34), " ")}"']
    return found[0], names, end


def _addresses_in(field: str, name: str, own: str) -> list[str]:
    """The addresses, other than `own`, in a display name or comment; rules 5 and 6."""
    if name.isascii() and "@" not in name and "=?" not in name:  # nearly all names
        if "<" in name or ">" in name:
            _refuse(f"{field} has angle brackets in a display name")
        return []
    encoded_at = False
    shown: list[str] = []
    for word in _WORD.findall(name):
        bare = _PAIR.sub(r"\1", word[1:-1]) if word.startswith('"') else word
        if word.startswith('"') and ("<" in bare or ">" in bare):
            _refuse(f"{field} has angle brackets in a display name")
        for encoded in _ENCODED_WORD.findall(bare):
            decoded = _plain(decode_words(encoded))
            if _MISLEADING.search(decoded):
                _refuse(f"{field} has an encoded display name that could be read as an address")
            encoded_at = encoded_at or "@" in decoded
        if "=?" in _ENCODED_WORD.sub("", bare):
            _refuse(f"{field} has a malformed encoded word in a display name")
        shown.append(bare)
    text = " ".join(shown)
    text = _plain(" ".join(part if "=?" not in part else decode_words(part) for part in _runs(text)))
    if "@" not in text:
        return []
    found = [address.strip(_AROUND_AN_ADDRESS) for address in _LIKE_AN_ADDRESS.findall(text)]
    if encoded_at and text.count("@") > len(found):
        _refuse(f"{field} has an encoded display name that could be read as an address")
    return [address for address in found if address.lower() != own.lower()]


def _runs(text: str) -> Iterator[str]:
    """Split text before and behind runs of encoded words, which are decoded together (RFC 2047 6.2)."""
    at = 0
    for run in _ENCODED_RUN.finditer(text):
        yield text[at : run.start()]
        yield run[0]
        at = run.end()
    yield text[at:]


def _plain(text: str) -> str:
    """Text in which characters that look like "@" and "." are replaced by them."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).replace("\u3002", ".")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
