"""Authentication-Results (RFC 8601): the server in whose name a field speaks. *Pure.*"""

from __future__ import annotations

import re

import idna

from restante_mail.header.comments import without_comments

__all__ = ["authserv_id", "comparable_id"]

_LONGEST_VALUE = 4_096  # characters that are read
_AUTHSERV_ID = re.compile(r'\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;"/]++(?:\s*+\.\s*+[^\s;"/]++)*+))')
_PAIR, _BLANK = re.compile(r"\\(.)"), re.compile(r"\s+")


def authserv_id(value: str) -> str:
    """The authserv-id of a field's unfolded value in the form of `comparable_id`; empty when there is none.

    RFC 8601 2.2 has comments before it and quotes around it. It is read as generously as other readers may read it:
    white space and comments around dots, a dot at the end, a version behind a slash.
    """
    try:
        value = value[:_LONGEST_VALUE].encode("latin-1").decode()  # one octet a character came in
    except UnicodeDecodeError:
        pass  # not UTF-8: comparable with no name of ours
    value = value.split(";", 1)[0] if "(" not in value else without_comments(value)
    match = _AUTHSERV_ID.match(value)
    if match is None:
        return ""
    return comparable_id(_PAIR.sub(r"\1", match[1]) if match[1] is not None else match[2])


def comparable_id(name: str) -> str:
    """The form in which equal names are equal: lower case and A-labels, without blanks and the dot of the root."""
    plain = _BLANK.sub("", name).rstrip(".").lower()
    try:
        return plain if plain.isascii() else idna.encode(plain, uts46=True).decode("ascii")
    except idna.IDNAError:  # no host name at all
        return plain
