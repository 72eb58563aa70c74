"""The part of a header that a failure report may show: nothing that names a recipient (RFC 9991 7.1). *Pure.*

The owner of a domain must not learn to whom its correspondents write, or who forwards mail to whom. A report therefore
has only fields that explain the authentication of a message and name no recipients by purpose. In these, addresses of
recipients are hidden, and those behind "for" in Received.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from restante_mail.header.fields import fields

__all__ = ["MAX_HEADER_OCTETS", "shown_header"]

MAX_HEADER_OCTETS = 16 << 10  # of the shown header
HIDDEN = b"[hidden]"

_SHOWN = frozenset(
    b"arc-authentication-results arc-message-signature arc-seal authentication-results content-transfer-encoding "
    b"content-type date dkim-signature from list-id message-id mime-version received received-spf reply-to resent-date "
    b"resent-from resent-message-id resent-sender sender subject user-agent x-mailer".split()
)
_DELIMITERS = re.compile(rb"([\s<>\"(),:;\[\]=]+)")
_UNSAFE = re.compile(rb"[^\x09\x0a\x0d\x20-\x7e]")
_LONGEST_LINE = 998  # octets (RFC 5322 2.1.1)


def shown_header(header: bytes, recipients: Collection[str]) -> bytes:
    """The shown fields of a header block, in 7-bit octets, cut between fields. `recipients` are forward-paths."""
    hidden = frozenset(address.lower().encode() for address in recipients)
    kept: list[bytes] = []
    octets = 0
    for field in fields(header):
        name = field.name.lower()
        if name not in _SHOWN:
            continue
        whole = field.name + b":" + _hidden(_plain(header[field.value_start : field.end]), hidden, name == b"received")
        octets += len(whole)
        if octets > MAX_HEADER_OCTETS:
            break
        if max(map(len, whole.split(b"\r\n"))) <= _LONGEST_LINE:
            kept.append(whole)
    return b"".join(kept)


def _plain(value: bytes) -> bytes:
    """A raw value with canonical line ends and without octets beyond ASCII."""
    lines = value.replace(b"\r", b"").rstrip(b"\n").split(b"\n")
    return b"\r\n".join(_UNSAFE.sub(b"?", line) for line in lines) + b"\r\n"


def _hidden(value: bytes, recipients: frozenset[bytes], is_received: bool) -> bytes:
    """The value without addresses of recipients."""
    pieces = _DELIMITERS.split(value)
    before = b""
    for at in range(0, len(pieces), 2):
        word = pieces[at]
        is_for = is_received and before == b"for" and b"@" in word
        if is_for or word.lower().strip(b"'") in recipients:
            pieces[at] = HIDDEN
        before = word.lower() or before
    return b"".join(pieces)
