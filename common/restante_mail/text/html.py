"""Visible text of HTML, even malformed, in pieces, in linear time for any nesting. *Pure.*

`TextOfHtml` returns words, for previews and search; `LinesOfHtml` returns lines with links, for terminals. Neither is a
sanitiser: never show their results as HTML. Start tags are not matched with end tags, so depth costs nothing. One
regular expression matches a whole run of text and tags. Its quantifiers are possessive, so that it examines each
character a few times at most.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5

__all__ = ["LinesOfHtml", "TextOfHtml", "lines_of_html", "text_of_html"]

_HIDDEN = ("script", "style", "title", "template", "noscript", "svg", "math")  # elements without visible text
# Tags that may be inside of words ("<b>rest</b>aurant"); all others separate words.
_INLINE = "a abbr b bdi bdo big cite code em font i ins mark q s small span strike strong sub sup tt u wbr".split()
_LINES = ("br", "p", "div", "tr", "li")
_BLOCKS = (
    "address article blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav"
    " ol p pre section table td th tr ul"
).split()
_NOTHING = "\0"  # replaces an inline tag until entities are resolved, so that "&am<b>p;" is no entity

_LONGEST_TAG = 4_096  # characters of a tag with quoted values; a longer one ends at its first ">"
_LONGEST_QUOTED = 2_000  # of one value
_LONGEST_ENTITY = 33

_QUOTED = rf"(?:\"[^\"]{{0,{_LONGEST_QUOTED}}}+\"|'[^']{{0,{_LONGEST_QUOTED}}}+')"
_IN_TAG = rf"[^>\"']*+(?:{_QUOTED}[^>\"']*+)*+>"
_LENIENT = re.compile(rf"</?[A-Za-z](?:[^>\"']++|{_QUOTED}|[\"'])*+>")  # an unclosed quote is ignored
_IN_COMMENT = r"(?=--)(?:[^-]++|-(?!->))*+-->"  # after the "!"; <!--> is a comment, too
_SHOWN = rf"(?!(?ai:{'|'.join(_HIDDEN)})(?![^\s/>]))"
# A run: text, whole tags, comments and declarations; a "<" without a letter after it is text.
_RUN = re.compile(
    rf"(?:[^<]++|<+(?=[^A-Za-z/!?])|<(?:/?+{_SHOWN}[A-Za-z]{_IN_TAG}|!{_IN_COMMENT}|(?:!(?!--)|\?|/(?![A-Za-z]))[^>]*+>))*+"
)
_MARKUP = rf"<(/?[A-Za-z][^\s/>\"'!?]*+|[!?/])(?:(?<![!?/]){_IN_TAG}|(?<=!){_IN_COMMENT}|[^>]*+>)"
_EACH_MARKUP = re.compile(_MARKUP)  # the markup of a run, with the name or mark after each "<"
_SPLIT = re.compile(rf"{_MARKUP}(?:<\1(?=[\s/>]){_IN_TAG})*+")  # the same, but a directly repeated tag counts once
_ANY_MARKUP = re.compile("<[A-Za-z!?/]")
_WHOLE_TAG = re.compile(rf"</?[A-Za-z]{_IN_TAG}")
_TAG_START = re.compile("</?[A-Za-z]")
_NAME = re.compile(r"</?[A-Za-z][^\s/>\"'!?]*+")
_ENTITY = re.compile(r"&(?:#(?:[0-9]{1,10}+|[xX][0-9A-Fa-f]{1,8}+)|[A-Za-z][A-Za-z0-9]{1,30}+);?")
_UNFINISHED_ENTITY = re.compile(r"&(?:#(?:[0-9]{0,10}|[xX][0-9A-Fa-f]{0,8})|[A-Za-z][A-Za-z0-9]{0,30})?\Z")
_CHARACTERS = {"&" + name: text for name, text in html5.items() if name.endswith(";")}
_UNDECIDED = frozenset(("<", "</", "<!", "<!-"))
_SPACE = re.compile(r"\s+")
_LINK = re.compile(r"\shref\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"']++))", re.IGNORECASE)

_TAG_END = (re.compile(">"), 0)
_COMMENT_END = (re.compile("-->"), 2)
_ENDS = {name: (re.compile(f"(?ai)(?=</{name})"), len(name) + 1) for name in _HIDDEN}


class _Traces(dict[str, str]):
    """{name after the "<", in lower case: text that replaces the tag}; a space for all other tags."""

    def __missing__(self, name: str) -> str:
        return " "


_TRACES = _Traces({word: _NOTHING for name in _INLINE for word in (name, "/" + name)})
_TRACES.update({word: "\n" for name in _LINES for word in (name, "/" + name)})
_TRACES.update(dict.fromkeys("/!?", _NOTHING))


class TextOfHtml:
    """The words of markup in pieces. Holds at most one tag of `_LONGEST_TAG` between pieces. If no tag is longer, the
    words do not depend on the pieces."""

    def __init__(self) -> None:
        self._held = ""
        # Inside of a hidden element or a comment: the pattern of its end, and the characters to hold for a partial end.
        self._until: tuple[re.Pattern[str], int] | None = None

    def feed(self, markup: str, final: bool = False) -> str:
        """The visible text that later markup cannot change, with entities resolved and white space unchanged."""
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
            out.append(self._visible(text[at:end]))
            at = run.end()
        return "".join(out)

    def _skipped(self, text: str, at: int, final: bool) -> int:
        """The offset after the open hidden element or comment."""
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
        """Process the markup at the "<" at `at`; return the offset after its available part."""
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
        out.append(self._trace(name, tag[0] if tag is not None else ""))
        if tag is None:
            self._until = _TAG_END
            return min(limit, len(text))
        if name in _ENDS and tag[0][-2] != "/":
            self._until = _ENDS[name]
        return tag.end()

    def _visible(self, run: str) -> str:
        """The visible text of a run of text and whole tags."""
        if _ANY_MARKUP.search(run):
            pieces = _SPLIT.split(run)
            pieces[1::2] = map(_TRACES.__getitem__, map(str.lower, pieces[1::2]))
            run = "".join(pieces)
        run = _resolved(run)
        return run.replace(_NOTHING, "") if _NOTHING in run else run

    def _trace(self, name: str, tag: str) -> str:
        """The text that replaces one tag; `tag` is empty if the tag has no end."""
        return _TRACES[name].replace(_NOTHING, "")


class LinesOfHtml(TextOfHtml):
    """The text of markup in lines: one for each block, `* ` before a list item, a link's target after its text."""

    def __init__(self) -> None:
        super().__init__()
        self._link = self._last_text = ""

    def _visible(self, run: str) -> str:
        out, at = [], 0
        for found in _EACH_MARKUP.finditer(run):
            out += [self._text(run[at : found.start()]), self._trace(found[1].lower(), found[0])]
            at = found.end()
        return "".join([*out, self._text(run[at:])])

    def _text(self, piece: str) -> str:
        text = _SPACE.sub(" ", _resolved(piece))
        self._last_text = text or self._last_text
        return text

    def _trace(self, name: str, tag: str) -> str:
        match name:
            case "a":
                link = _LINK.search(tag)
                self._link = _resolved(link[1] or link[2] or link[3] or "").strip() if link is not None else ""
                return ""
            case "/a":
                link_target, self._link = self._link, ""
                known = not link_target or link_target.startswith("#") or link_target == self._last_text
                return "" if known else f" <{link_target}>"
            case "li":
                return "\n* "
        return "\n" if name.removeprefix("/") in _BLOCKS else super()._trace(name, tag)


def _resolved(text: str) -> str:
    """`text` with its entities replaced by characters."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    return _CHARACTERS.get(entity[0]) or unescape(entity[0])


def text_of_html(markup: str) -> str:
    """The words of a whole piece of HTML."""
    return TextOfHtml().feed(markup, final=True)


def lines_of_html(markup: str) -> str:
    """The text of a whole page in lines, each with LF, with at most one empty line between two others."""
    text = LinesOfHtml().feed(markup, final=True)
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
