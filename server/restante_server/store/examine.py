"""Examining one message for the conditions that its rows do not decide: header fields and text. *Pure.*

This module defines the meaning of text conditions; any faster evaluation must give the same results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Final

from restante_mail.header.addresses import shown
from restante_mail.header.summary import Summary, read_header, summary
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.mime import parts
from restante_mail.mime.decoders import whole_text
from restante_mail.mime.parts import Part
from restante_mail.mime.text import field_values, header_text, text_chunks
from restante_mail.octets import Buffer, take
from restante_mail.text.fold import fold, fold_latin, occurs
from restante_server.store.restriction import HasHeader, HasText, TextField

LOOK_OCTETS: Final = 4 << 20  # encoded octets searched in the text parts of one message; later text is not found
_AT_ONCE_OCTETS = 64 << 10  # a larger text part is searched in pieces
_LONGEST_BEGINNING = 12  # octets of a word


def _go_on() -> None:
    """The default `check`: never stops the examination."""


class Examined:
    """One message: `head`, and its content as stored.

    `check` is called at each piece of the message's text; an exception from it ends the examination.
    """

    def __init__(self, head: bytes, content: Buffer, structure: bytes, check: Callable[[], None] = _go_on) -> None:
        self._head, self._content, self._structure, self._check = head, content, structure, check

    def holds(self, condition: HasText | HasHeader) -> bool:
        """Whether the condition is true of the message."""
        needle = condition.needle
        if isinstance(condition, HasHeader):
            return self._in_header(needle) and any(
                needle in fold(value) for value in field_values(self._head + self._header, condition.name)
            )
        match condition.field:
            case TextField.SUBJECT:
                return needle in fold(self._summary.subject)
            case TextField.FROM:
                return needle in fold(shown(self._summary.from_))
            case TextField.TO:
                return needle in fold(shown(self._summary.to))
            case TextField.CC:
                return needle in fold(shown(self._summary.cc))
            case TextField.BCC:
                return needle in fold(shown(self._summary.bcc))
            case TextField.BODY:
                return self._in_body(needle)
            case TextField.ANY:
                header = self._in_header(needle) and occurs(needle, [header_text(self._head + self._header)])
                return header or self._in_body(needle)

    @cached_property
    def _tree(self) -> Part:
        return parts.decode(self._structure)

    @cached_property
    def _header(self) -> bytes:
        end = min(self._tree.body_start, self._tree.header_start + DEFAULT_LIMITS.header_octets)
        return take(self._content, self._tree.header_start, end)

    @cached_property
    def _summary(self) -> Summary:
        return summary(read_header(self._header))

    def _in_header(self, needle: str) -> bool:
        """Whether a header field may hold the needle. False is certain: in ASCII without encoded words, folding leaves
        words unchanged but for letter case."""
        block = self._head + self._header
        if not block.isascii() or b"=?" in block:
            return True
        return needle.isascii() and _longest_word(needle) in block.lower()

    def _in_body(self, needle: str) -> bool:
        if needle.isascii() and (word := _longest_word(needle)):
            found = self._in_texts(word)
            if found is False or (found and len(word) == len(needle)):
                return found
        elif needle and max(needle) > "\u00ff" and self._in_texts(None) is False:
            return False
        return occurs(needle, self._text())

    def _in_texts(self, word: bytes | None) -> bool | None:
        """Whether the text parts hold the word, found without folding words and without removing markup; None if only
        the text itself can tell. `word` is None for a word that is not in ISO-8859-1."""
        sure: bool | None = False
        left = LOOK_OCTETS
        for part in self._tree.walk():
            fields = part.fields
            if fields.is_text:
                left -= part.octets
                if left < 0 or part.octets > _AT_ONCE_OCTETS:
                    return None
                self._check()
                octets = fold_latin(whole_text(part, take(self._content, part.body_start, part.body_end)))
                in_markup = fields.media_type == "text/html"
                held = octets is None or (word is not None and word in octets)
                if held and octets is not None and not in_markup:
                    return True
                if held or (in_markup and octets is not None and _is_divided(octets, word)):
                    sure = None
            elif fields.is_message:
                sure = None  # its header is searched, too
        return sure

    def _text(self) -> Iterator[str]:
        for chunk in text_chunks(self._content, self._tree, LOOK_OCTETS):
            self._check()
            yield chunk


@lru_cache(maxsize=64)
def _longest_word(needle: str) -> bytes:
    """The longest piece of the needle without white space, control characters and colons.

    Folding may change white space, also before a colon, so only such a piece occurs unchanged in folded text.
    """
    return max(re.split(r"[\s:\x00-\x1f\x7f]+", needle), key=len).encode("ascii", "ignore")


def _is_divided(markup: bytes, word: bytes | None) -> bool:
    """Whether the word may have tags, comments or entities in this folded markup, which lacks it as a whole."""
    if b"&" in markup.replace(b"&nbsp;", b" ").replace(b"&amp;", b" "):
        return True
    return word is not None and (not word.isalnum() or _begun(word).search(markup) is not None)


@lru_cache(maxsize=64)
def _begun(word: bytes) -> re.Pattern[bytes]:
    """The pattern of the beginning of a word before a tag; of a long word, its first letters."""
    beginnings = [word[:length] + b"<" for length in range(1, min(len(word), _LONGEST_BEGINNING))]
    if len(word) > _LONGEST_BEGINNING:
        beginnings.append(word[:_LONGEST_BEGINNING])
    return re.compile(b"|".join(beginnings) or b"(?!)")
