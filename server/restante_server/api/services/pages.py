"""Paging of lists: sizes, and opaque tokens that are valid only for the list they came from. *Pure*."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from restante.errors import InvalidArgument, InvalidPageToken

DEFAULT_SIZE = 100
MAX_SIZE = 1_000
MAX_TOKEN_CHARACTERS = 4_096
MAX_DIGITS = 20
HIGHEST = 1 << 63


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


def _mark(of: str) -> str:
    return hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:12]
