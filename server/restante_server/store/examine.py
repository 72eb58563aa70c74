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
from restante_mail.mime.content_fields import ContentFields
from restante_mail.mime.parts import Part
from restante_mail.mime.text import field_values, header_text, text_chunks
from restante_mail.octets import Buffer, take
from restante_mail.text.fold import fold, occurs
from restante_server.store.restriction import HasHeader, HasText, TextField

LOOK_OCTETS: Final = 4 << 20  # encoded octets searched in the text parts of one message; later text is not found
_DIRECT_OCTETS = 1 << 20  # a plain body up to this size is searched in one piece
_DIRECT_CHARSETS = frozenset(("", "us-ascii", "ascii", "utf-8", "utf8", "iso-8859-1", "iso-8859-15", "windows-1252"))
_DIRECT_ENCODINGS = frozenset(("7bit", "8bit", "binary"))


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
        tree = self._tree
        if not tree.children and tree.octets <= _DIRECT_OCTETS and _is_direct(tree.fields):
            octets = take(self._content, tree.body_start, tree.body_end)
            if octets.isascii():  # folding ASCII changes only letter case and white space
                word = _longest_word(needle)
                if not needle.isascii() or word not in octets.lower():
                    return False
                if word and len(word) == len(needle):
                    return True
        return occurs(needle, self._text())

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


def _is_direct(fields: ContentFields) -> bool:
    """Whether ASCII octets of a part with these fields are its decoded text."""
    return (
        fields.is_text
        and fields.media_type != "text/html"
        and fields.encoding in _DIRECT_ENCODINGS
        and fields.charset.lower() in _DIRECT_CHARSETS
    )
