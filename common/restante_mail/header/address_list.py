"""Address lists: RFC 5322 3.4, the obsolete forms of 4.4, and malformed lists of real programs. *Pure.*

Input is header text with one character for each octet (latin-1), so that 8-bit text and encoded words are preserved.
Parsing is linear and never raises. Unusual forms take about a microsecond for each token, so `Tokens` limits their
number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from restante_mail.envelope.paths import quoted_local_part
from restante_mail.header.comments import comment_end
from restante_mail.limits import DEFAULT_LIMITS

__all__ = [
    "GroupEnd",
    "GroupStart",
    "ListItem",
    "Mailbox",
    "Tokens",
    "parse_address_list",
    "spelled",
]


class Mailbox(NamedTuple):
    """One mailbox without decoding: raw `name`, RFC 5322 quoting removed. Missing `local` or `domain` are empty."""

    name: str  # "" without one
    route: str  # "@a,@b" from the obsolete <@a,@b:local@domain>, else ""
    local: str
    domain: str


class GroupStart(NamedTuple):
    name: str


class GroupEnd(NamedTuple):
    pass


ListItem = Mailbox | GroupStart | GroupEnd


# The form of nearly every mailbox; `_Reader` parses other forms. Both alternatives end at a comma or at the end of the
# list, so that neither matches a part of a longer element.
_USUAL = re.compile(
    r'[ \t\r\n]*+(?:(?:"([^"\\\r\n]*+)"|([^\x00-\x1f"(),:;<>@\[\\\]\x7f]*+))[ \t\r\n]*+'
    r"<([^\x00-\x20\"(),:;<>@\[\\\]\x7f]++)@([^\x00-\x20\"(),:;<>@\[\\\]\x7f]++)>"
    r"|([^\x00-\x20\"(),:;<>@\[\\\]\x7f]++)@([^\x00-\x20\"(),:;<>@\[\\\]\x7f]++))[ \t\r\n]*+(?:,|$)"
)
_TOKEN = re.compile(
    r'([ \t\r\n]++)|"((?:[^"\\]|\\.)*+)(?:"|\\?$)|(\[(?:[^\[\]\\]|\\.)*+\]?)|([^\x00-\x20"(),.:;<>@\[\\\]\x7f]++)'
    r"|([^\x09\x0a\x0d\x20-\x5b\x5d-\xff]++|.)",  # a run of characters that are allowed nowhere, or one special
    re.DOTALL,
)
_EMPTY = re.compile(r"[ \t\r\n,]*+")
_EMPTY_OUTSIDE_GROUP = re.compile(r"[ \t\r\n,;]*+")
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_LINE_END = re.compile(r"[\r\n]+")


@dataclass(slots=True)
class Tokens:
    """The number of tokens left for all users of this object together."""

    left: int = DEFAULT_LIMITS.address_tokens


def parse_address_list(raw: str, limit: int = 10_000, tokens: Tokens | None = None) -> list[ListItem]:
    """The mailboxes of a field in order, groups marked by a GroupStart and a GroupEnd; at most `limit` items.

    Empty elements and lone comments give no item. The list ends when no token is left.
    """
    tokens = tokens or Tokens()
    items: list[ListItem] = []
    at, end = 0, len(raw)
    usual = _USUAL.match
    while at < end and len(items) < limit:
        found = usual(raw, at)
        if found is None:
            empty = _EMPTY_OUTSIDE_GROUP.match(raw, at)
            if empty is not None and empty.end() > at:
                at = empty.end()
                continue
            reader = _Reader(raw, at, limit - len(items), tokens)
            reader.run()
            items += reader.items
            at = reader.at
            if tokens.left <= 0:
                break
            continue
        quoted, plain, local, domain, bare_local, bare_domain = found.groups()
        if bare_local is not None:
            items.append(Mailbox("", "", bare_local, bare_domain))
        else:
            name = quoted if quoted is not None else plain
            items.append(Mailbox(name.strip(), "", local, domain))
        at = found.end()
    return items


class _Reader:
    """The token parser for unusual forms. It reads one list element up to its comma, or a group up to its semicolon.

    Elements of programs that omit the comma are separated, so that no address gets a part of another.
    """

    def __init__(self, raw: str, at: int, limit: int, tokens: Tokens) -> None:
        self.items: list[ListItem] = []
        self.at = at
        self._raw = raw
        self._limit, self._tokens = limit, tokens
        self._in_group = False
        self._clear()

    def _clear(self) -> None:
        self._words: list[str] = []  # the phrase with its spaces; its end may be a local part
        self._local_from = 0  # index in `_words` at which that local part begins
        self._comments: list[str] = []
        self._angle: list[str] | None = None
        self._closed = False
        self._domain: list[str] | None = None
        self._after: list[str] = []  # words after an address: its name, or the next address
        self._route: list[str] = []
        self._space = False
        self._abbreviated = False  # the last token is a dot at the end of a word, as in "J. Smith"

    def run(self) -> None:
        """Read one list element. An unclosed group ends with the list."""
        raw, end, tokens = self._raw, len(self._raw), self._tokens
        while self.at < end and len(self.items) < self._limit and tokens.left > 0:
            tokens.left -= 1
            if raw[self.at] == "(":
                self._comments.append(self._comment())
                self._space = True
                continue
            match = _TOKEN.match(raw, self.at)
            assert match is not None  # the last alternative matches any character
            self.at = match.end()
            kind = match.lastindex
            if kind == 1:
                self._space = True
            elif kind == 5:
                if self._special(match[5]) and not self._in_group:
                    return
            else:
                self._word(_unquoted(match[2]) if kind == 2 else match[0])
        if self.at == end:
            self._flush()  # else the element is incomplete
        if self._in_group:
            self.items.append(GroupEnd())

    def _comment(self) -> str:
        """The text inside the comment at `at`."""
        start, self.at = self.at, comment_end(self._raw, self.at)
        inner = self._raw[start + 1 : self.at]
        return _unquoted(inner.removesuffix(")")).strip()

    def _word(self, word: str) -> None:
        spaced, self._space = self._space, False
        if self._closed or self._after:
            self._append(self._after, word, spaced)
        elif self._domain is not None:
            if not spaced or not self._domain or self._domain[-1] == "." or word.startswith("["):
                self._domain.append(word)
            else:  # local@domain and then words
                self._after.append(word)
        elif self._angle is not None:
            self._append(self._angle, word, spaced and self._angle[-1:] != ["."])
        else:
            if spaced and (self._abbreviated or self._words[-1:] != ["."]):
                self._local_from = len(self._words) + 1 if self._words else 0
            self._append(self._words, word, spaced)
        self._abbreviated = False

    @staticmethod
    def _append(words: list[str], word: str, spaced: bool) -> None:
        if spaced and words:
            words.append(" ")
        words.append(word)

    def _special(self, char: str) -> bool:
        """Process one special character. Return True if it ended the element."""
        if char == "<" and (self._closed or self._after):
            self._next_element()
            self._angle = []
        elif char == "<" and self._angle is None:
            if self._domain is not None:  # a@b <c@d>: the first is the name
                self._words, self._domain = [*self._words, "@", *self._domain], None
            self._angle = []
        elif char == ">" and self._angle is not None:
            self._closed, self._after = True, []
        elif char == "@":
            self._at_sign()
        elif char == "," and self._angle is not None and not self._closed and self._is_route():
            self._route_step(",")
        elif char == ":" and self._angle is not None and not self._closed:
            self._route_step(":")
        elif char == ",":
            self._flush()
            self._skip_empty()
            return True
        elif char == ":" and not self._in_group and (self._domain is None or self._after):
            if self._after:
                self._next_element()
            self.items.append(GroupStart("".join(self._words)))
            self._clear()
            self._in_group = True
        elif char == ";":
            self._flush()
            if self._in_group:
                self.items.append(GroupEnd())
                self._in_group = False
                self._skip_empty()
            return True
        elif char not in "<>":
            self._word_glued(char)
        return False

    def _at_sign(self) -> None:
        if self._after and self._angle is not None and not self._closed:
            return  # <a@b c@d>: the first counts
        if self._after:
            self._next_element()
        elif self._closed:
            return
        if self._domain is not None:  # a@b@c: the domain follows the last @
            target = self._words if self._angle is None else self._angle
            target += ["@", *self._domain]
        self._domain = []
        self._space = False

    def _next_element(self) -> None:
        """Begin another element after a missing comma, with the words after the address."""
        words, self._after = self._after, []
        spaced = self._space
        self._flush()
        for word in words:
            if word == " ":
                self._space = True
            elif word == ".":
                self._word_glued(word)
            else:
                self._word(word)
        self._space = spaced

    def _is_route(self) -> bool:
        return self._domain is not None and not self._angle

    def _route_step(self, char: str) -> None:
        """Add one @domain of the obsolete route (RFC 5322 4.4), which ends with a comma or the final colon."""
        if self._domain:
            self._route.append("@" + "".join(self._domain))
        self._domain = None
        if char == ":":
            self._angle = []

    def _word_glued(self, char: str) -> None:
        """Keep a dot, or a misplaced special, and join it with its adjacent words."""
        spaced, self._space = self._space, False
        if self._closed or self._after:
            if self._after:
                self._append(self._after, char, spaced)
        elif self._domain is not None:
            self._domain.append(char)
        elif self._angle is not None:
            self._angle.append(char)
        else:
            self._append(self._words, char, spaced)
            self._abbreviated = char == "." and not spaced and len(self._words) > 1

    def _skip_empty(self) -> None:
        """Skip empty elements."""
        empty = _EMPTY.match(self._raw, self.at)
        assert empty is not None  # it may be empty
        self.at = empty.end()

    def _flush(self) -> None:
        """End an element: its words become a mailbox, or nothing."""
        domain = "".join(self._domain or ())
        behind = "".join(self._after) if self._closed or self._angle is None else ""
        comment = behind or " ".join(filter(None, self._comments))
        if self._angle is not None:
            local = "".join(self._angle)
            if local or domain or self._words:
                self.items.append(Mailbox("".join(self._words) or comment, ",".join(self._route), local, domain))
        elif domain:
            name = "".join(self._words[: self._local_from]).strip()
            local = "".join(word for word in self._words[self._local_from :] if word != " ")
            self.items.append(Mailbox(name or comment, "", local, domain))
        elif self._words:
            self.items.append(Mailbox(comment, "", "".join(self._words), ""))
        self._clear()


def _unquoted(text: str) -> str:
    """The text of a quoted string or comment without backslashes and folds."""
    if "\\" in text:
        text = _PAIR.sub(r"\1", text)
    return _LINE_END.sub("", text) if "\r" in text or "\n" in text else text


def spelled(local: str, domain: str) -> str:
    """local@domain as text, the local part quoted if RFC 5321 4.1.2 requires it."""
    local = quoted_local_part(local) if local else ""
    return f"{local}@{domain}" if domain else local
