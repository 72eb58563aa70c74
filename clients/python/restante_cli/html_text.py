"""HTML as plain text, for terminals, in linear time and whatever the nesting. *Pure.*"""

from __future__ import annotations

import re
from html import unescape

_BLOCKS = frozenset(
    "address article blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr main nav"
    " ol p pre section table td th tr ul".split()
)
_SILENT = frozenset(("head", "script", "style", "template", "title"))
_LONGEST_TAG = 4_096  # characters of a tag in which quotes are believed; a longer one ends at its first ">"

# Quantifiers give nothing back, so that no character is looked at more than a few times.
_TEXT = re.compile(r"(?:[^<]++|<+(?=[^A-Za-z/!?]|\Z))++")
_NAME = re.compile(r"</?([A-Za-z][^\s/>\"']*+)")
_TAG = re.compile(r"</?[A-Za-z](?:[^>\"']++|\"[^\"]{0,2000}+\"|'[^']{0,2000}+'|[\"'])*+>")
_LINK = re.compile(r"\shref\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"']++))", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#(?:[0-9]{1,10}+|[xX][0-9A-Fa-f]{1,8}+)|[A-Za-z][A-Za-z0-9]{1,30}+);?")
_SPACE = re.compile(r"\s+")
_ENDS = {name: re.compile(f"(?ai)</{name}") for name in _SILENT}


class _Reader:
    """One page, read once."""

    def __init__(self, page: str) -> None:
        self._page = page
        self.pieces: list[str] = []
        self._link = ""

    def read(self) -> None:
        page, at = self._page, 0
        while at < len(page):
            text = _TEXT.match(page, at)
            if text is not None:
                self.pieces.append(_SPACE.sub(" ", _characters(text[0])))
                at = text.end()
            else:
                at = self._markup(at)

    def _markup(self, at: int) -> int:
        """Behind the tag, comment or declaration at `at`; one that does not end reaches to the end of the page."""
        page = self._page
        name = _NAME.match(page, at)
        if name is None:
            ending, start = ("-->", at + 2) if page.startswith("<!--", at) else (">", at + 1)
            end = page.find(ending, start)
            return end + len(ending) if end >= 0 else len(page)
        tag = _TAG.match(page, at, at + _LONGEST_TAG)
        end = tag.end() if tag is not None else page.find(">", at) + 1 or len(page)
        word = name[1].lower()
        if page[at + 1] == "/":
            self._end(word)
        elif word in _SILENT:
            closing = _ENDS[word].search(page, end)
            return closing.start() if closing is not None else len(page)
        else:
            self._start(word, tag[0] if tag is not None else "")
        return end

    def _start(self, name: str, tag: str) -> None:
        if name == "li":
            self.pieces.append("\n* ")
        elif name in _BLOCKS:
            self.pieces.append("\n")
        elif name == "a":
            link = _LINK.search(tag)
            self._link = _characters(link[1] or link[2] or link[3] or "").strip() if link is not None else ""

    def _end(self, name: str) -> None:
        if name in _BLOCKS or name == "li":
            self.pieces.append("\n")
        elif name == "a" and self._link:
            if not self._link.startswith("#") and self._link not in self.pieces[-1:]:
                self.pieces.append(f" <{self._link}>")
            self._link = ""


def _characters(text: str) -> str:
    return _ENTITY.sub(lambda entity: unescape(entity[0]), text) if "&" in text else text


def html_text(html: str) -> str:
    """The words of a page in lines; where a link leads stands behind it."""
    reader = _Reader(html)
    reader.read()
    lines = [" ".join(line.split()) for line in "".join(reader.pieces).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
