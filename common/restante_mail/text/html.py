"""Visible text of HTML, tolerantly, in pieces, in linear time and whatever the nesting. *Pure.*

This finds words for previews and search. It is no sanitiser: nothing it returns is ever shown as HTML. Elements are not
matched with their ends, so depth costs nothing. Whole runs of text and tags are read by one regular expression each;
their quantifiers give nothing back, so that no character is looked at more than a few times.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5

__all__ = ["TextOfHtml", "text_of_html"]

_HIDDEN = ("script", "style", "title", "template", "noscript", "svg", "math")  # their text is not shown
# These lie inside a word ("<b>rest</b>aurant"); all other tags part words.
_INLINE = "a abbr b bdi bdo big cite code em font i ins mark q s small span strike strong sub sup tt u wbr".split()
_LINES = ("br", "p", "div", "tr", "li")
_NOTHING = "\0"  # stands for what leaves no trace until entities are resolved: "&am<b>p;" is no entity

_LONGEST_TAG = 4_096  # characters of a tag in which quotes are believed; a longer one ends at its first ">"
_LONGEST_QUOTED = 2_000  # of one value
_LONGEST_ENTITY = 33

_QUOTED = rf"(?:\"[^\"]{{0,{_LONGEST_QUOTED}}}+\"|'[^']{{0,{_LONGEST_QUOTED}}}+')"
_IN_TAG = rf"[^>\"']*+(?:{_QUOTED}[^>\"']*+)*+>"
_LENIENT = re.compile(rf"</?[A-Za-z](?:[^>\"']++|{_QUOTED}|[\"'])*+>")  # a quote that is never closed is none
_IN_COMMENT = r"(?=--)(?:[^-]++|-(?!->))*+-->"  # behind the "!": <!--> is one, too
_SHOWN = rf"(?!(?ai:{'|'.join(_HIDDEN)})(?![^\s/>]))"
# Text and whole tags, comments and declarations; a "<" with no letter behind it is text.
_RUN = re.compile(
    rf"(?:[^<]++|<+(?=[^A-Za-z/!?])|<(?:/?+{_SHOWN}[A-Za-z]{_IN_TAG}|!{_IN_COMMENT}|(?:!(?!--)|\?|/(?![A-Za-z]))[^>]*+>))*+"
)
# The markup of such a run, each with what follows its "<"; a tag that is repeated at once counts once.
_SPLIT = re.compile(
    rf"<(/?[A-Za-z][^\s/>\"'!?]*+|[!?/])(?:(?<![!?/]){_IN_TAG}|(?<=!){_IN_COMMENT}|[^>]*+>)(?:<\1(?=[\s/>]){_IN_TAG})*+"
)
_ANY_MARKUP = re.compile("<[A-Za-z!?/]")
_WHOLE_TAG = re.compile(rf"</?[A-Za-z]{_IN_TAG}")
_TAG_START = re.compile("</?[A-Za-z]")
_NAME = re.compile(r"</?[A-Za-z][^\s/>\"'!?]*+")
_ENTITY = re.compile(r"&(?:#(?:[0-9]{1,10}+|[xX][0-9A-Fa-f]{1,8}+)|[A-Za-z][A-Za-z0-9]{1,30}+);?")
_UNFINISHED_ENTITY = re.compile(r"&(?:#(?:[0-9]{0,10}|[xX][0-9A-Fa-f]{0,8})|[A-Za-z][A-Za-z0-9]{0,30})?\Z")
_CHARACTERS = {"&" + name: text for name, text in html5.items() if name.endswith(";")}
_UNDECIDED = frozenset(("<", "</", "<!", "<!-"))

_TAG_END = (re.compile(">"), 0)
_COMMENT_END = (re.compile("-->"), 2)
_ENDS = {name: (re.compile(f"(?ai)(?=</{name})"), len(name) + 1) for name in _HIDDEN}


class _Traces(dict[str, str]):
    """{what follows the "<", in lower case: what stands in the place of the tag}."""

    def __missing__(self, name: str) -> str:
        return " "


_TRACES = _Traces({word: _NOTHING for name in _INLINE for word in (name, "/" + name)})
_TRACES.update({word: "\n" for name in _LINES for word in (name, "/" + name)})
_TRACES.update(dict.fromkeys("/!?", _NOTHING))


class TextOfHtml:
    """Feed markup, get text; holds at most one tag of `_LONGEST_TAG` between pieces. Whatever the pieces, the words are
    the same, as long as no tag is longer."""

    def __init__(self) -> None:
        self._held = ""
        # Inside of something that is not shown: what ends it, and how many characters may be the beginning of that.
        self._until: tuple[re.Pattern[str], int] | None = None

    def feed(self, markup: str, final: bool = False) -> str:
        """The visible text of what is certain so far, entities resolved; white space is left as it is."""
        text, self._held = self._held + markup, ""
        if _NOTHING in text:
            text = text.replace(_NOTHING, "")
        out: list[str] = []
        at = 0
        while at < len(text):
            if self._until is not None:
                at = self._skipped(text, at, final)
                continue
            run = _RUN.match(text, at)
            assert run is not None  # it may be empty
            if run.end() == at:
                at = self._markup(text, at, final, out)
                continue
            end = run.end()
            if end == len(text) and not final:
                unfinished = _UNFINISHED_ENTITY.search(text, max(at, end - _LONGEST_ENTITY))
                if unfinished is not None:
                    end, self._held = unfinished.start(), unfinished[0]
            out.append(_visible(text[at:end]))
            at = run.end()
        return "".join(out)

    def _skipped(self, text: str, at: int, final: bool) -> int:
        """Where to go on behind what is not shown."""
        assert self._until is not None
        ending, kept = self._until
        found = ending.search(text, at)
        if found is None:
            if not final:
                self._held = text[max(at, len(text) - kept) :] if kept else ""
            return len(text)
        self._until = None
        return found.end()

    def _markup(self, text: str, at: int, final: bool, out: list[str]) -> int:
        """Pass over what begins at the "<" at `at`, as far as it is there."""
        beginning = text[at : at + 4]
        if beginning in _UNDECIDED and len(text) - at < 4:
            if not final:
                self._held = beginning
            elif "!" not in beginning:
                out.append(beginning)
            return len(text)
        if not _TAG_START.match(beginning):
            self._until = _COMMENT_END if beginning == "<!--" else _TAG_END
            return at + 2
        limit = at + _LONGEST_TAG
        tag = _WHOLE_TAG.match(text, at, limit)
        if tag is None and len(text) < limit and not final:
            self._held = text[at:]
            return len(text)
        tag = tag or _LENIENT.match(text, at, limit)
        found = _NAME.match(text, at, limit)
        assert found is not None  # a letter follows
        name = found[0][1:].lower()
        out.append(_TRACES[name].replace(_NOTHING, ""))
        if tag is None:
            self._until = _TAG_END
            return min(limit, len(text))
        if name in _ENDS and tag[0][-2] != "/":
            self._until = _ENDS[name]
        return tag.end()


def _visible(run: str) -> str:
    """The text of a run of text and whole tags."""
    if _ANY_MARKUP.search(run):
        pieces = _SPLIT.split(run)
        pieces[1::2] = map(_TRACES.__getitem__, map(str.lower, pieces[1::2]))
        run = "".join(pieces)
    if "&" in run:
        run = _ENTITY.sub(_character, run)
    return run.replace(_NOTHING, "") if _NOTHING in run else run


def _character(entity: re.Match[str]) -> str:
    return _CHARACTERS.get(entity[0]) or unescape(entity[0])


def text_of_html(markup: str) -> str:
    """The visible text of a whole piece of HTML."""
    return TextOfHtml().feed(markup, final=True)
