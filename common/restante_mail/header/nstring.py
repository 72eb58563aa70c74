"""Strings of IMAP responses (RFC 3501 4.3, RFC 9051 4.3). *Pure.*"""

from __future__ import annotations

import re

__all__ = ["nstring"]

_LITERAL = re.compile(r"[^\x01-\x09\x0b\x0c\x0e-\x7e]")
_MUST_ESCAPE = re.compile(r'(["\\])')
_LONGEST_QUOTED = 1_000  # octets; some clients limit the length of lines


def nstring(raw: str | None) -> str:
    """NIL, a quoted string or, for 8-bit, control and long values, a literal (RFC 3501 4.3).

    The result has one character for each octet. A quoted string never has CR, LF or NUL, and a literal no NUL.
    """
    if raw is None:
        return "NIL"
    if len(raw) > _LONGEST_QUOTED or not raw.isprintable() or not raw.isascii():
        if "\0" in raw:
            raw = raw.replace("\0", "")
        if len(raw) > _LONGEST_QUOTED or _LITERAL.search(raw):
            return f"{{{len(raw)}}}\r\n{raw}"
    if '"' in raw or "\\" in raw:
        raw = _MUST_ESCAPE.sub(r"\\\1", raw)
    return f'"{raw}"'
