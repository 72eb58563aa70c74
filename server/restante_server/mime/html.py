"""Visible text of HTML, tolerantly, in pieces and in linear time. *Pure.*

This finds words for previews and search. It is no sanitiser: nothing it returns is ever shown as HTML.
"""

from __future__ import annotations

import re
from html import unescape

__all__ = ["TextOfHtml", "text_of_html"]

_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9:-]{0,30})")
_HIDDEN = frozenset(("script", "style", "title", "template", "noscript", "svg", "math"))
# These lie inside a word ("<b>rest</b>aurant"); all other tags part words.
_INLINE = frozenset(
    "a abbr b bdi bdo big cite code em font i ins mark q s small span strike strong sub sup tt u wbr".split()
)
_LONGEST_ENTITY = 32
_LONGEST_TAG_NAME = 34
_LONGEST_QUOTING = 2_000  # characters of a tag in which quotes are believed
_TAG_STOP = re.compile("[>\"']")


class TextOfHtml:
    """Feed markup, get text. Holds a few dozen characters between pieces, whatever the markup."""

    def __init__(self) -> None:
        self._held = ""
        self._until = ""  # inside of something that ends with this, in lower case; its text is not visible

    def feed(self, markup: str, final: bool = False) -> str:
        """The visible text of what is certain so far, entities resolved; white space is left as it is."""
        text, self._held = self._held + markup, ""
        out: list[str] = []
        at = 0
        lowered = ""
        while at < len(text):
            if self._until:
                if self._until[0] == "<" and not lowered:
                    lowered = text.lower() if len(text.lower()) == len(text) else _ascii_lower(text)
                ends = (lowered or text).find(self._until, at)
                if ends < 0:
                    at = max(at, len(text) - len(self._until) + 1)
                    break
                at = ends if self._until[0] == "<" else ends + len(self._until)
                self._until = ""
                continue
            opening = text.find("<", at)
            if opening < 0:
                break
            out.append(unescape(text[at:opening]) if "&" in text[at:opening] else text[at:opening])
            if not final and len(text) - opening < _LONGEST_TAG_NAME and ">" not in text[opening:]:
                self._held = text[opening:]
                return "".join(out)
            at = self._tag(text, opening, out)
        self._rest(text, at, final, out)
        return "".join(out)

    def _rest(self, text: str, at: int, final: bool, out: list[str]) -> None:
        if self._until:
            self._held = "" if final else text[at:]
            return
        entity = -1 if final else text.rfind("&", max(at, len(text) - _LONGEST_ENTITY))
        if entity >= 0 and ";" not in text[entity:]:
            text, self._held = text[:entity], text[entity:]
        out.append(unescape(text[at:]))

    def _tag(self, text: str, opening: int, out: list[str]) -> int:
        """Pass over the tag, comment or declaration at `opening`; a `<` that begins none is text."""
        if text.startswith("<!--", opening):
            self._until = "-->"
            return opening + 4 if not text.startswith("<!-->", opening) else opening + 2
        name = _NAME.match(text, opening)
        if name is None:
            if text[opening + 1 : opening + 2] in ("!", "?"):
                self._until = ">"
                return opening + 2
            out.append("<")
            return opening + 1
        tag = name[1].lower()
        if tag not in _INLINE:
            out.append("\n" if tag in ("br", "p", "div", "tr", "li") else " ")
        end = self._tag_end(text, name.end())
        if end < 0:
            self._until = ">"
            return name.end()
        if tag in _HIDDEN and text[opening + 1] != "/" and text[end - 2] != "/":
            self._until = "</" + tag
        return end

    @staticmethod
    def _tag_end(text: str, at: int) -> int:
        """Behind the `>` that ends a tag: one in a quoted value does not, but quotes that never close are ignored."""
        limit, position = min(len(text), at + _LONGEST_QUOTING), at
        while (stop := _TAG_STOP.search(text, position, limit)) is not None:
            if stop[0] == ">":
                return stop.end()
            closing = text.find(stop[0], stop.end(), limit)
            if closing < 0:
                break
            position = closing + 1
        return text.find(">", at) + 1 or -1


def _ascii_lower(text: str) -> str:
    """Lower case that keeps every offset, which str.lower does not ("İ")."""
    return text.translate(_LOWER)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def text_of_html(markup: str) -> str:
    """The visible text of a whole piece of HTML."""
    return TextOfHtml().feed(markup, final=True)
