"""Authentication-Results (RFC 8601): the server name in a field. *Pure.*"""

from __future__ import annotations

import re

import idna

from restante_mail.header.comments import without_comments

__all__ = ["authserv_id", "comparable_id"]

_LONGEST_VALUE = 4_096  # characters that are read
_AUTHSERV_ID = re.compile(r'\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;"/]++(?:\s*+\.\s*+[^\s;"/]++)*+))')
_PAIR, _BLANK = re.compile(r"\\(.)"), re.compile(r"\s+")


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
