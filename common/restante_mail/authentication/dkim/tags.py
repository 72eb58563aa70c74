"""Tag lists, the syntax of signature fields and key records (RFC 6376 3.2). *Pure.*"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

__all__ = ["TagError", "TagList", "octets_of", "read_tags", "words_of"]

MOST_TAGS = 100  # of a list

_TAG = re.compile(rb"[ \t\r\n]*+([A-Za-z][A-Za-z0-9_]*+)[ \t\r\n]*+=([^;]*+)(?:;|\Z)")
_VALUE = re.compile(rb"(?:[\t -:<-~\x80-\xff]|\r\n(?=[ \t]))*+")  # RFC 8616 admits UTF-8
_SPACE = b" \t\r\n"
_NO_SPACE = str.maketrans("", "", " \t\r\n")


class TagError(ValueError):
    """The octets are no tag list, or a tag has no valid value. The text is the reason."""


@dataclass(frozen=True, slots=True)
class TagList:
    """The tags of a list, with their values without surrounding white space; folds inside of a value are kept.

    `spans` has the place of each value in the octets, with the surrounding white space.
    """

    values: dict[str, str]
    spans: dict[str, tuple[int, int]]

    def required(self, name: str) -> str:
        """The value of a tag. Raises TagError for a missing or empty one."""
        value = self.values.get(name)
        if not value:
            raise TagError(f"{name}= is missing" if value is None else f"{name}= is empty")
        return value


def read_tags(octets: bytes, most_octets: int) -> TagList:
    """Parse a tag list of at most `most_octets`. Raises TagError, also for a name that occurs twice."""
    if len(octets) > most_octets:
        raise TagError(f"more than {most_octets} octets")
    values: dict[str, str] = {}
    spans: dict[str, tuple[int, int]] = {}
    at, end = 0, len(octets.rstrip(_SPACE))
    while at < end:
        tag = _TAG.match(octets, at)
        if tag is None:
            raise TagError("no tag list")
        if len(values) == MOST_TAGS:
            raise TagError(f"more than {MOST_TAGS} tags")
        name, value = tag[1].decode("ascii"), tag[2].strip(_SPACE)
        if name in values:
            raise TagError(f"two {name}= tags")
        if _VALUE.fullmatch(value) is None:
            raise TagError(f"{name}= has a forbidden character")
        values[name] = _text(name, value)
        spans[name] = tag.span(2)
        at = tag.end()
    return TagList(values, spans)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise TagError(f"{name}= is not UTF-8") from None


def words_of(value: str) -> list[str]:
    """The words of a list with colons, such as h=, without white space around them; empty ones are left out."""
    return [word for word in map(str.strip, value.split(":")) if word]


def octets_of(name: str, value: str) -> bytes:
    """The octets of a base64 value, in which white space is ignored. Raises TagError."""
    try:
        return binascii.a2b_base64(value.translate(_NO_SPACE), strict_mode=True)
    except (binascii.Error, ValueError):
        raise TagError(f"{name}= is not base64") from None
