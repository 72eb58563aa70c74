"""Folding of text for search: the same function folds stored text and search terms. *Pure.*

Folding removes the differences of letter case, compatibility forms and diacritics (U+0300 to U+036F: "jose" finds
"José" and vice versa), and makes a run of white space one space. Marks of other scripts stay, since they are letters
there. This is looser than i;unicode-casemap (RFC 5051): texts that match there match here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["fold", "fold_latin", "folded_chunks", "occurs"]

_SPACES = re.compile("  +")
# Diacritics; and soft hyphens and joiners, which break no word.
_DROPPED = re.compile("[\u0300-\u036f\u00ad\u200b-\u200d\u2060\ufeff]+")
_LONGEST_CARRY = 1_024  # characters of an unfinished word held back
_LONGEST_KEPT = 32  # characters of a word whose fold is kept
_MOST_KEPT = 8_192


def fold(text: str) -> str:
    """The folded text. fold(fold(x)) == fold(x)."""
    latin = fold_latin(text)
    if latin is not None:
        folded = latin.decode("latin-1")
        while "  " in folded:
            folded = folded.replace("  ", " ")
        return folded
    text = text.lower()  # changes no character to one with another fold
    words = [word if word.isascii() else _FOLDS[word] for word in text.split()]
    folded = " ".join(words)
    if text[0].isspace():
        folded = " " + folded
    if words and text[-1].isspace():
        folded += " "
    return _SPACES.sub(" ", folded) if "  " in folded else folded


def fold_latin(text: str) -> bytes | None:
    """The fold of `text` in ISO-8859-1, with its runs of white space as runs of spaces; None if a character has another
    fold, which is rare in the languages of Western Europe. Several times as fast as `fold` of words."""
    try:
        octets = text.encode("latin-1")
    except UnicodeEncodeError:
        return None
    folded = octets.replace(b"\xdf", b"ss").replace(b"\xad", b"").translate(_LATIN)  # sharp s, soft hyphen
    return None if b"\0" in folded else folded


def _fold_word(word: str) -> str:
    # Twice: the case fold of a composed letter may need another decomposition (Unicode 3.13, D145).
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold()).casefold()
    return unicodedata.normalize("NFC", _DROPPED.sub("", unicodedata.normalize("NFKD", text)))


class _Folds(dict[str, str]):
    """{word: its fold}, of words that are not ASCII; keeps short ones, since mail repeats them."""

    def __missing__(self, word: str) -> str:
        folded = _fold_word(word)
        if len(word) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[word] = folded
        return folded


_FOLDS = _Folds()


def _latin(character: str) -> int:
    """The fold of one character in ISO-8859-1; 0 if it is another one or more than one."""
    folded = " " if character.isspace() else _fold_word(character.lower())
    return ord(folded) if len(folded) == 1 and folded < "\u0100" else 0


_LATIN = bytes(_latin(chr(code)) for code in range(256))


def folded_chunks(chunks: Iterable[str]) -> Iterator[str]:
    """The fold of a text in pieces. The joined results equal the fold of the whole. Pieces are split again at white
    space, so that no character is folded without its marks."""
    carry, spaced = "", False
    for chunk in chunks:
        if not chunk:
            continue
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
