"""Folding of text for search: the same function folds stored text and search terms. *Pure.*

Folding removes the differences of letter case, compatibility forms and diacritics (U+0300 to U+036F: "jose" finds
"José" and vice versa), and makes a run of white space one space. Marks of other scripts stay, since they are letters
there. This is looser than i;unicode-casemap (RFC 5051): texts that match there match here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["fold", "folded_chunks", "occurs"]

_SPACE = re.compile(r"\s+")
_MARKS = dict.fromkeys(range(0x300, 0x370))
_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF])  # soft hyphen, joiners: break no word
_DROPPED = _MARKS | _INVISIBLE
_ASCII_SPACE = str.maketrans("\t\n\v\f\r\x1c\x1d\x1e\x1f", " " * 9)
_LONGEST_CARRY = 1_024  # characters of an unfinished word held back


def fold(text: str) -> str:
    """The folded text. fold(fold(x)) == fold(x)."""
    if text.isascii():
        text = text.lower().translate(_ASCII_SPACE) if not text.isprintable() else text.lower()
    else:
        # Twice: the case fold of a composed letter may need another decomposition (Unicode 3.13, D145).
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_DROPPED))
        text = _SPACE.sub(" ", text)
    return _SPACE.sub(" ", text) if "  " in text else text


def folded_chunks(chunks: Iterable[str]) -> Iterator[str]:
    """The fold of a text in pieces. The joined results equal the fold of the whole. Pieces are split again at white
    space, so that no character is folded without its marks."""
    carry, spaced = "", False
    for chunk in chunks:
        text = carry + chunk
        cut = max(text.rfind(" "), text.rfind("\n"))
        if cut < 0 and len(text) < _LONGEST_CARRY:
            carry = text
            continue
        if cut < len(text) - _LONGEST_CARRY:
            cut = len(text) - 1
        text, carry = text[: cut + 1], text[cut + 1 :]
        folded = fold(text)
        if spaced and folded.startswith(" "):
            folded = folded[1:]
        if folded:
            spaced = folded.endswith(" ")
            yield folded
    folded = fold(carry)
    if spaced and folded.startswith(" "):
        folded = folded[1:]
    if folded:
        yield folded


def occurs(needle: str, chunks: Iterable[str]) -> bool:
    """Whether a folded `needle` occurs in the fold of the text. Memory is bounded by a chunk and the needle."""
    tail = ""
    if not needle:
        return True
    keep = len(needle) - 1
    for folded in folded_chunks(chunks):
        window = tail + folded
        if needle in window:
            return True
        tail = window[-keep:] if keep else ""
    return False
