"""Matching the names that users enter against entries of the address book: folding and ranking. *Pure*."""

from __future__ import annotations

import unicodedata
from enum import IntEnum

LIKE_ESCAPE = "\\"


class Match(IntEnum):
    """The quality of a match between an entry and a name, the best first."""

    EXACT = 0  # the whole address, or the whole name
    LOCAL_PART = 1  # the whole local part
    NAME_START = 2
    WORD_START = 3
    ADDRESS_START = 4
    NONE = 9


def fold(text: str) -> str:
    """The form for comparison, which ignores letter case, compatibility forms, accents and runs of spaces."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return " ".join(unicodedata.normalize("NFC", plain).split())


def match(wanted: str, name_key: str, address_key: str) -> Match:
    """The quality of the match between an entry and `wanted`, which is folded."""
    if not wanted:
        return Match.NONE
    local_part = address_key.rpartition("@")[0]
    if wanted in (address_key, name_key):
        return Match.EXACT
    if wanted == local_part:
        return Match.LOCAL_PART
    if name_key.startswith(wanted):
        return Match.NAME_START
    if f" {wanted}" in name_key:
        return Match.WORD_START
    return Match.ADDRESS_START if address_key.startswith(wanted) else Match.NONE


def like_literal(text: str) -> str:
    """Text as a LIKE pattern that matches only this text, with the escape character LIKE_ESCAPE."""
    for special in (LIKE_ESCAPE, "%", "_"):
        text = text.replace(special, LIKE_ESCAPE + special)
    return text
