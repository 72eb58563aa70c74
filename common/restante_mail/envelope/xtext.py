"""xtext, which carries any text in a parameter of MAIL or RCPT (RFC 3461 4). *Pure.*"""

from __future__ import annotations

import re

__all__ = ["decode_xtext", "encode_xtext", "is_xtext"]

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([2-6][0-9A-F]|7[0-9A-E]|[89A-F][0-9A-F])")  # except codes of control characters
_ENCODED = re.compile(r"[^!-*,-<>-~]")


def is_xtext(text: str) -> bool:
    """Whether `text` is xtext. An empty text is."""
    return _XTEXT.fullmatch(text) is not None


def encode_xtext(text: str) -> str:
    """`text` as xtext, with non-ASCII characters as their UTF-8 octets."""
    return _ENCODED.sub(lambda found: "".join(f"+{octet:02X}" for octet in found[0].encode()), text)


def decode_xtext(xtext: str) -> str:
    """The text of xtext. Non-ASCII octets are decoded as UTF-8, malformed ones as U+FFFD.

    Codes of control characters stay encoded, so that the text is one line.
    """
    octets = _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), xtext.encode())
    return octets.decode("utf-8", "replace")
