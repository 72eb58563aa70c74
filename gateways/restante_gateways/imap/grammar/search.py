"""The parser of search keys (RFC 3501 6.4.4; RFC 4731; RFC 7162 3.1.5): octets to a tree. *Pure.*"""

from __future__ import annotations

import codecs
from collections.abc import Callable

from restante_gateways.imap.grammar import condstore
from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.grammar.parser import ParseError, Parser, Refused
from restante_gateways.imap.grammar.search_keys import (
    Comparison,
    DateKind,
    SearchAnd,
    SearchDate,
    SearchFlag,
    SearchHeader,
    SearchKey,
    SearchMessages,
    SearchNot,
    SearchOr,
    SearchRecent,
    SearchReturn,
    SearchSize,
    SearchText,
    TextScope,
)

_MAX_DEPTH = 32  # of nested keys
_MAX_KEYS = 1_000  # in one search
_CHARSETS = {  # charset names in use by clients, and their codecs
    b"US-ASCII": "ascii",
    b"ASCII": "ascii",
    b"UTF-8": "utf-8",
    b"UTF8": "utf-8",
    b"ISO-8859-1": "latin-1",
    b"ISO-8859-15": "iso8859-15",
    b"WINDOWS-1252": "cp1252",
}
_SET_START = frozenset(b"0123456789*")
_FLAG_KEYS = {
    b"ANSWERED": SystemFlag.ANSWERED,
    b"DELETED": SystemFlag.DELETED,
    b"DRAFT": SystemFlag.DRAFT,
    b"FLAGGED": SystemFlag.FLAGGED,
    b"SEEN": SystemFlag.SEEN,
}
_HEADER_KEYS = (b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO")


class BadCharset(Refused):
    """The CHARSET of a SEARCH is unknown (RFC 3501 6.4.4)."""

    code = b"BADCHARSET (US-ASCII UTF-8)"


def return_options(p: Parser) -> SearchReturn:
    """Parse a list such as `(MIN COUNT)` after RETURN; an empty list means ALL (RFC 4731 3.1)."""
    options = SearchReturn(0)
    for word in p.parenthesised_words():
        if word.decode("ascii") not in SearchReturn.__members__:
            raise ParseError("unknown return option")
        options |= SearchReturn[word.decode("ascii")]
    return options or SearchReturn.ALL


def search_keys(p: Parser) -> SearchKey:
    """Parse `[CHARSET name] key...` to the end of the command; several keys are joined by AND."""
    codec = "ascii"
    if p.octets[p.at : p.at + 8].upper() == b"CHARSET ":
        p.at += 8
        name = p.astring().upper()
        if name not in _CHARSETS:
            raise BadCharset("unknown charset")
        codec = _CHARSETS[name]
        p.sp()
    return _Reader(p, codec).keys_to(None, 0)


class _Reader:
    """Reads the keys of one search, and counts them for the limit."""

    def __init__(self, p: Parser, codec: str) -> None:
        self.parser, self._decode, self._read = p, codecs.getdecoder(codec), 0

    def keys_to(self, closing: bytes | None, depth: int) -> SearchKey:
        keys = [self.key(depth)]
        while not (self.parser.at_end if closing is None else self.parser.accept(closing)):
            keys.append(self.key_after_space(depth))
        return keys[0] if len(keys) == 1 else SearchAnd(tuple(keys))

    def key_after_space(self, depth: int) -> SearchKey:
        self.parser.sp()
        return self.key(depth)

    def key(self, depth: int) -> SearchKey:
        p = self.parser
        self._read += 1
        if depth > _MAX_DEPTH or self._read > _MAX_KEYS:
            raise ParseError("search too complex")
        if p.accept(b"("):
            return self.keys_to(b")", depth + 1)
        if not p.at_end and p.octets[p.at] in _SET_START:
            return SearchMessages(p.sequence_set(), uid=False)
        word = p.word()
        if word == b"NOT":
            return SearchNot(self.key_after_space(depth + 1))
        if word == b"OR":
            return SearchOr(self.key_after_space(depth + 1), self.key_after_space(depth + 1))
        return self._plain(word)

    def _plain(self, word: bytes) -> SearchKey:
        if (flag := _FLAG_KEYS.get(word)) is not None:
            return SearchFlag(flag)
        if word.startswith(b"UN") and (flag := _FLAG_KEYS.get(word[2:])) is not None:
            return SearchNot(SearchFlag(flag))
        if word in _HEADER_KEYS:
            return SearchHeader(word.decode("ascii"), self._text())
        if (read := _OTHER_KEYS.get(word)) is not None:
            return read(self)
        for kind in DateKind:
            for comparison in Comparison:
                if word == (kind.value + comparison.value).encode("ascii"):
                    return SearchDate(kind, comparison, self.parser.sp().date())
        raise ParseError("unknown search key")

    def _text(self) -> str:
        octets = self.parser.sp().astring()
        try:
            return self._decode(octets, "strict")[0]
        except UnicodeDecodeError:
            if b"\0" in octets or self._decode is not codecs.getdecoder("ascii"):
                raise ParseError("a string is not valid in the charset of the command") from None
        try:
            return octets.decode("utf-8")  # UTF-8 is the default charset (RFC 9051 6.4.4)
        except UnicodeDecodeError:
            raise ParseError("a string is not valid in the charset of the command") from None

    def header(self) -> SearchKey:
        field = self.parser.sp().astring()
        if not field or not all(33 <= octet < 127 and octet != 58 for octet in field):
            raise ParseError("invalid header field name")
        return SearchHeader(field.decode("ascii"), self._text())

    def keyword(self) -> SearchKey:
        name = self.parser.sp().flag()
        if name.startswith("\\"):
            raise ParseError("keyword expected")
        return SearchFlag(name)

    def body(self) -> SearchKey:
        return SearchText(TextScope.BODY, self._text())

    def text(self) -> SearchKey:
        return SearchText(TextScope.TEXT, self._text())

    def larger(self) -> SearchKey:
        return SearchSize(larger=True, octets=self.parser.sp().number())

    def smaller(self) -> SearchKey:
        return SearchSize(larger=False, octets=self.parser.sp().number())

    def uid(self) -> SearchKey:
        return SearchMessages(self.parser.sp().sequence_set(), uid=True)


_OTHER_KEYS: dict[bytes, Callable[[_Reader], SearchKey]] = {
    b"ALL": lambda _: SearchAnd(),
    b"NEW": lambda _: SearchAnd((SearchRecent(), SearchNot(SearchFlag(SystemFlag.SEEN)))),
    b"OLD": lambda _: SearchNot(SearchRecent()),
    b"RECENT": lambda _: SearchRecent(),
    b"HEADER": _Reader.header,
    b"KEYWORD": _Reader.keyword,
    b"UNKEYWORD": lambda reader: SearchNot(_Reader.keyword(reader)),
    b"BODY": _Reader.body,
    b"TEXT": _Reader.text,
    b"LARGER": _Reader.larger,
    b"SMALLER": _Reader.smaller,
    b"UID": _Reader.uid,
    b"MODSEQ": lambda reader: condstore.search_key(reader.parser),
}
