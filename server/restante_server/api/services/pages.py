"""Paging of lists: sizes, octets, and opaque tokens that are valid only for the list they came from. *Pure*."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from restante.errors import InvalidArgument, InvalidPageToken

DEFAULT_SIZE = 100
MAX_SIZE = 1_000
MAX_TOKEN_CHARACTERS = 4_096
MAX_DIGITS = 20
HIGHEST = 1 << 63
TEXT_CHARACTERS = 64  # of a text in a key
FRAME_OCTETS = 6  # tag and length of one entry
TOKEN_OCTETS = 1_024  # room for next_page_token and its frame

Row = TypeVar("Row")


class Request(Protocol):
    """The request of a list."""

    page_size: int
    page_token: str


class Answer(Protocol):
    """The response of a list."""

    next_page_token: str


Filled = TypeVar("Filled", bound=Answer)


@dataclass(frozen=True, slots=True)
class Page:
    """One requested page of a list."""

    of: str  # the list and its filters
    size: int  # entries at most
    key: tuple[str, ...]  # the page begins after the entry at this key; empty strings: the first page
    limit_octets: int  # of the response

    @classmethod
    def asked(cls, of: str, request: Request, limit_octets: int, parts: int = 1) -> Page:
        """The page of a request; keys of this list have `parts` parts. Raises InvalidArgument, InvalidPageToken."""
        return cls(of, size(request.page_size), key(of, request.page_token, parts), limit_octets)

    @property
    def most(self) -> int:
        """The number of entries to read: one more than the page holds, which shows whether another page follows."""
        return self.size + 1

    def fill(
        self,
        answer: Filled,
        entries: Any,
        found: Sequence[Row],
        message: Callable[[Row], Message],
        key_of: Callable[[Row], tuple[str, ...]],
    ) -> Filled:
        """Fill `entries`, a repeated field of the answer, and set next_page_token if more follow.

        `found` has at most `most` rows. The page ends early where it would pass its limit, but has at least one entry.
        """
        left = self.limit_octets - TOKEN_OCTETS
        for row in found[: self.size]:
            entry = message(row)
            left -= entry.ByteSize() + FRAME_OCTETS
            if left < 0 and entries:
                break
            entries.append(entry)
        if len(entries) < len(found):
            answer.next_page_token = token(self.of, *key_of(found[len(entries) - 1]))
        return answer


def size(requested: int) -> int:
    """The number of entries for one page. Raises InvalidArgument for a negative number."""
    if requested < 0:
        raise InvalidArgument(field="page_size", problem="must not be negative")
    return min(requested or DEFAULT_SIZE, MAX_SIZE)


def token(of: str, *key: str) -> str:
    """The token of the page after the entry at `key`. `of` names the list and its filters."""
    octets = json.dumps([_mark(of), *key], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(octets).decode("ascii").rstrip("=")


def key(of: str, page_token: str, parts: int = 1) -> tuple[str, ...]:
    """The key after which a page begins, consisting of empty strings for the first page. Raises InvalidPageToken."""
    if not page_token:
        return ("",) * parts
    if len(page_token) > MAX_TOKEN_CHARACTERS:
        raise InvalidPageToken
    try:
        octets = base64.b64decode(page_token + "=" * (-len(page_token) % 4), altchars=b"-_", validate=True)
        found = json.loads(octets)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidPageToken from error
    if not isinstance(found, list) or len(found) != parts + 1 or not all(isinstance(part, str) for part in found):
        raise InvalidPageToken
    if found[0] != _mark(of) or any("\0" in part or not part.isprintable() for part in found):
        raise InvalidPageToken
    return tuple(found[1:])


def number(part: str) -> int:
    """A number of a key, below 2^63 as in the tables. Raises InvalidPageToken."""
    if not (part.isascii() and part.isdecimal()) or len(part) > MAX_DIGITS or int(part) >= HIGHEST:
        raise InvalidPageToken
    return int(part)


def text_key(text: str) -> tuple[str, str]:
    """The key of an entry of a list of ascending texts, which may be longer than a token."""
    prefix = text[:TEXT_CHARACTERS].encode()
    return base64.b64encode(prefix).decode("ascii"), hashlib.sha256(text.encode()).hexdigest()[:16]


def behind_text(texts: Sequence[str], prefix: str, digest: str) -> int:
    """The position in ascending texts behind the one with this key; 0 for the key of a first page.

    If that text is gone, it is the position of the texts that begin as it did, or of those that followed it. Raises
    InvalidPageToken.
    """
    try:
        beginning = base64.b64decode(prefix, validate=True).decode()
    except ValueError as error:
        raise InvalidPageToken from error
    first = at = bisect_left(texts, beginning)
    while digest and at < len(texts) and texts[at].startswith(beginning):
        if text_key(texts[at]) == (prefix, digest):
            return at + 1
        at += 1
    return first


def _mark(of: str) -> str:
    return hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:12]
