"""Reads a BODYSTRUCTURE (RFC 9051 7.5.2), to compare part trees with IMAP's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_DEPTH = 200

Value = str | int | list["Value"] | None


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one part. `number` is its number in FETCH; a multipart at the top of a message has the message's."""

    number: tuple[int, ...]
    media_type: str
    parameters: list[tuple[str, str]]  # raw
    encoding: str = ""  # these are of parts that are no multipart
    size_octets: int = 0
    content_id: str = ""  # raw
    description: str = ""  # raw
    disposition: str = ""
    languages: tuple[str, ...] = ()
    location: str = ""  # raw


def read(octets: bytes) -> list[Facts]:
    """The parts in the order of their octets. Raises ValueError."""
    tokens = _tokens(octets)
    if next(tokens, None) != "(":
        raise ValueError("a body structure begins with a parenthesis")
    values = _list(tokens, 0)
    if next(tokens, None) is not None:
        raise ValueError("something follows the body structure")
    return list(_part(values, () if isinstance(values[0], list) else (1,)))


_TOKEN = re.compile(rb'\s*(?:([()])|"((?:[^"\\]|\\.)*)"|\{(\d+)\}\r\n|([^\s()"{]+))', re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Text:
    value: str


def _tokens(octets: bytes) -> Iterator[str | _Text]:
    """The tokens: parentheses and atoms as str, strings as _Text, one octet a character (latin-1)."""
    position = 0
    while position < len(octets):
        found = _TOKEN.match(octets, position)
        if found is None:
            if octets[position:].strip():
                raise ValueError(f"no body structure at octet {position}")
            return
        position = found.end()
        paren, quoted, length, atom = found.groups()
        if paren is not None:
            yield paren.decode()
        elif quoted is not None:
            yield _Text(re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL).decode("latin-1"))
        elif length is not None:
            end = position + int(length)
            if end > len(octets):
                raise ValueError("a literal is cut short")
            yield _Text(octets[position:end].decode("latin-1"))
            position = end
        else:
            yield atom.decode("latin-1")


def _list(tokens: Iterator[str | _Text], depth: int) -> list[Value]:
    """The values up to the closing parenthesis."""
    if depth > MAX_DEPTH:
        raise ValueError("the body structure is nested too deeply")
    values: list[Value] = []
    for item in tokens:
        if isinstance(item, _Text):
            values.append(item.value)
        elif item == "(":
            values.append(_list(tokens, depth + 1))
        elif item == ")":
            return values
        elif item.upper() == "NIL":
            values.append(None)
        else:
            values.append(int(item) if item.isdigit() else item)
    raise ValueError("a parenthesis is not closed")


def _part(values: list[Value], number: tuple[int, ...]) -> Iterator[Facts]:
    if values and isinstance(values[0], list):
        yield from _multipart(values, number)
        return
    if len(values) < 7:
        raise ValueError("a part has too few fields")
    media_type = f"{_text(values[0])}/{_text(values[1])}".lower()
    below = values[8] if media_type in ("message/rfc822", "message/global") and len(values) > 9 else None
    extension = 8 if media_type.startswith("text/") else 10 if isinstance(below, list) else 7
    kind, languages, location = (*values[extension + 1 :], None, None, None)[:3]
    yield Facts(
        number,
        media_type,
        _pairs(values[2]),
        encoding=_text(values[5]).lower(),
        size_octets=values[6] if isinstance(values[6], int) else -1,
        content_id=_text(values[3]),
        description=_text(values[4]),
        disposition=_text(kind[0]).lower() if isinstance(kind, list) else "",
        languages=tuple(map(_text, languages))
        if isinstance(languages, list)
        else tuple(filter(None, [_text(languages)])),
        location=_text(location),
    )
    if isinstance(below, list):
        yield from _part(below, number if isinstance(below[0], list) else (*number, 1))


def _multipart(values: list[Value], number: tuple[int, ...]) -> Iterator[Facts]:
    below = [value for value in values if isinstance(value, list)]
    count = next(at for at, value in enumerate(values) if not isinstance(value, list))
    rest = values[count:]
    yield Facts(number, f"multipart/{_text(rest[0])}".lower(), _pairs(rest[1] if len(rest) > 1 else None))
    for at, value in enumerate(below[:count], 1):
        yield from _part(value, (*number, at))


def _pairs(value: Value) -> list[tuple[str, str]]:
    texts = [_text(item) for item in value] if isinstance(value, list) else []
    return list(zip(texts[::2], texts[1::2], strict=True))


def _text(value: Value) -> str:
    return value if isinstance(value, str) else "" if value is None or isinstance(value, list) else str(value)
