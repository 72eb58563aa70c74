"""Comments of structured fields (RFC 5322 3.2.2). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["comment_end", "parts_with_comments", "without_comments"]

_MARK = re.compile(r"[()]|\\.?", re.DOTALL)
_PIECE = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[^("]++', re.DOTALL)


def comment_end(text: str, start: int) -> int:
    """The offset after the comment at `start`, including nested ones; the end of the text if it is unclosed."""
    depth = 0
    for mark in _MARK.finditer(text, start):
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if depth == 0:
                return mark.end()
    return len(text)


def without_comments(text: str) -> str:
    """`text` with a space for each comment outside of quoted strings.

    An unclosed comment ends the text, and an unclosed quoted string reaches to its end.
    """
    if "(" not in text:
        return text
    out, at = [], 0
    while at < len(text):
        if text[at] == "(":
            at = comment_end(text, at)
            out.append(" ")
            continue
        piece = _PIECE.match(text, at)
        assert piece is not None  # the alternatives match everything except "("
        out.append(piece[0])
        at = piece.end()
    return "".join(out)


def parts_with_comments(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a text between semicolons, each with a space for each comment, and the texts of its comments.

    Semicolons and parentheses in quoted strings mean nothing; parts of no characters are left out. An unclosed comment
    or quoted string reaches to the end of the text.
    """
    plain, comments, at = list[str](), list[str](), 0
    while at < len(text):
        if text[at] == "(":
            end = comment_end(text, at)
            comments.append(text[at + 1 : end].removesuffix(")"))
            plain.append(" ")
            at = end
            continue
        piece = _PIECE.match(text, at)
        assert piece is not None  # the alternatives match everything except "("
        at = piece.end()
        if piece[0].startswith('"'):
            plain.append(piece[0])
            continue
        first, *others = piece[0].split(";")
        plain.append(first)
        for other in others:
            if any(plain):
                yield "".join(plain), " ".join(comments)
            plain, comments = [other], []
    if any(plain):
        yield "".join(plain), " ".join(comments)
