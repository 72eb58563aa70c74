"""The DSN parameters of MAIL and RCPT: ENVID and ORCPT (RFC 3461 4.2, 4.4; RFC 6533 3). *Pure.*"""

from __future__ import annotations

import re

from restante_mail.envelope.xtext import encode_xtext, is_xtext

MAX_ENVELOPE_ID_CHARACTERS = 100  # RFC 3461 4.4
MAX_ORIGINAL_RECIPIENT_CHARACTERS = 500  # RFC 3461 4.2

_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]+")
_UTF_8_FORM = re.compile(r"[!-<>-~]+")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_EMBEDDED = re.compile(r"\\x\{(0?[0-9A-F]{2}|[1-9A-F][0-9A-F]{2,3}|10[0-9A-F]{4}|[1-9A-F][0-9A-F]{4})\}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def is_envelope_id(value: str) -> bool:
    """Whether `value` can be that of ENVID: xtext, not empty, of at most MAX_ENVELOPE_ID_CHARACTERS."""
    return 0 < len(value) <= MAX_ENVELOPE_ID_CHARACTERS and is_xtext(value)


def is_original_recipient(value: str) -> bool:
    """Whether `value` can be that of ORCPT: an address type, ";" and the address, in ASCII and not too long.

    The address is xtext; for the type "utf-8" it has any printable ASCII characters but "=". RFC 6533 3 also excludes a
    "+" and a "\\" without an escape, which are taken here.
    """
    kind, _, address = value.partition(";")
    if len(value) > MAX_ORIGINAL_RECIPIENT_CHARACTERS or not address or not _ADDRESS_TYPE.fullmatch(kind):
        return False
    return (_UTF_8_FORM.fullmatch(address) is not None) if is_utf_8(kind) else is_xtext(address)


def is_utf_8(kind: str) -> bool:
    """Whether an address type is "utf-8", in any letter case."""
    return kind.upper() == "UTF-8"


def original_recipient(path: str) -> str:
    """The value of ORCPT for a path that came without one; empty if it would be too long."""
    value = f"rfc822;{encode_xtext(path)}"
    return value if len(value) <= MAX_ORIGINAL_RECIPIENT_CHARACTERS else ""


def encode_utf_8_address(address: str) -> str:
    """An address as utf-8-addr-xtext, which is ASCII: all but QCHAR as "\\x{...}" (RFC 6533 3)."""
    return _NOT_QCHAR.sub(_embedded, address)


def decode_utf_8_address(address: str) -> str:
    """The address of a utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 3).

    Codes of control characters and of no character stay encoded, so that the text is one line.
    """
    return _EMBEDDED.sub(_decoded, address)


def in_ascii(value: str) -> str:
    """The utf-8-addr-xtext of a utf-8-addr-unitext, whose ASCII characters are encoded already (RFC 6533 3)."""
    return _NOT_ASCII.sub(_embedded, value)


def _decoded(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character.isprintable() and not character.isspace() else found[0]


def _embedded(found: re.Match[str]) -> str:
    return f"\\x{{{ord(found[0]):02X}}}"
