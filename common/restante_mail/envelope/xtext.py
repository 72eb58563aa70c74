"""xtext, which carries any text in a parameter of MAIL or RCPT (RFC 3461 4). *Pure.*"""

from __future__ import annotations

import re

__all__ = ["decode_xtext", "encode_xtext", "is_xtext"]

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([2-6][0-9A-F]|7[0-9A-E]|[89A-F][0-9A-F])")  # but for those of control characters
_ENCODED = re.compile(r"[^!-*,-<>-~]")


def is_xtext(text: str) -> bool:
    """Whether `text` is xtext; the empty text is."""
    return _XTEXT.fullmatch(text) is not None


def encode_xtext(text: str) -> str:
    """`text` as xtext, characters beyond ASCII as the octets of their UTF-8."""
    return _ENCODED.sub(lambda found: "".join(f"+{octet:02X}" for octet in found[0].encode()), text)


def decode_xtext(xtext: str) -> str:
    """The text of xtext; octets beyond ASCII are read as UTF-8, damaged ones as U+FFFD.

    A code of a control character stays as it is written, so the text is one line.
    """
    octets = _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), xtext.encode())
    return octets.decode("utf-8", "replace")
