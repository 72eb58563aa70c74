"""Authentication-Results (RFC 8601): the server name in a field, and the results in it. *Pure.*"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

import idna

from restante_mail.header.comments import parts_with_comments, without_comments

__all__ = ["MethodResult", "authserv_id", "comparable_id", "method_results"]

_LONGEST_VALUE = 4_096  # characters that are read
_MOST_RESULTS = 100  # of one field
_AUTHSERV_ID = re.compile(r'\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;"/]++(?:\s*+\.\s*+[^\s;"/]++)*+))')
_ITEM = re.compile(
    r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)'  # a quoted string that is no value
    r'|(?<![\w./-])([\w.-]++)(?:\s*+/\s*+\d++)?+\s*+=\s*+(?:"((?:[^"\\]++|\\.)*+)"|([^\s";]++))',
    re.DOTALL,
)
_PAIR, _BLANK = re.compile(r"\\(.)"), re.compile(r"\s+")


class MethodResult(NamedTuple):
    """One result in a field. Names and the result are in lower case."""

    method: str  # such as "dkim"
    result: str  # such as "pass"
    properties: dict[str, str]  # {"header.d": "example.org"}; of a repeated property the last; "reason", too
    comments: str = ""  # the texts of its comments


def method_results(value: str) -> list[MethodResult]:
    """The results in a field's unfolded value: at most 100, from its first 4,096 characters.

    A part without a result, such as `none` or what no grammar knows, is left out. The value may be that of
    ARC-Authentication-Results (RFC 8617 4.1.1), whose instance then is no result.
    """
    parts = [
        ([(item[1].lower(), _text(item)) for item in _ITEM.finditer(part) if item[1] is not None], comments)
        for part, comments in islice(parts_with_comments(value[:_LONGEST_VALUE]), _MOST_RESULTS + 2)
    ]
    if parts and parts[0][0] and parts[0][0][0][0] == "i":
        del parts[0]
    return [
        MethodResult(items[0][0], items[0][1].lower(), dict(items[1:]), comments)
        for items, comments in parts[1:]  # behind the name of the server
        if items
    ][:_MOST_RESULTS]


def _text(item: re.Match[str]) -> str:
    return item[3] if item[2] is None else _PAIR.sub(r"\1", item[2])


def authserv_id(value: str) -> str:
    """The authserv-id of a field's unfolded value in the form of `comparable_id`; empty if it has none.

    RFC 8601 2.2 allows comments before it and quotes around it. This also accepts forms that other programs may accept:
    white space and comments around dots, a final dot, a version after a slash.
    """
    try:
        value = value[:_LONGEST_VALUE].encode("latin-1").decode()  # the value has one character for each octet
    except UnicodeDecodeError:
        pass  # not UTF-8, so equal to no name of this server
    value = value.split(";", 1)[0] if "(" not in value else without_comments(value)
    match = _AUTHSERV_ID.match(value)
    if match is None:
        return ""
    return comparable_id(_PAIR.sub(r"\1", match[1]) if match[1] is not None else match[2])


def comparable_id(name: str) -> str:
    """The normal form for comparing names: lower case and A-labels, without white space and a final dot."""
    plain = _BLANK.sub("", name).rstrip(".").lower()
    try:
        return plain if plain.isascii() else idna.encode(plain, uts46=True).decode("ascii")
    except idna.IDNAError:  # not a host name
        return plain
