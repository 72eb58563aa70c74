"""Status responses and response codes (RFC 3501 7.1; RFC 5530). *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.sets import encode_ranges
from restante_mail.ranges import Range

_MAX_TEXT = 400  # characters of a status response's text


@dataclass(frozen=True, slots=True)
class Status:
    """OK, NO, BAD, BYE or PREAUTH with a text and an optional response code (without its brackets)."""

    condition: bytes
    text: str
    code: bytes | None = None

    def encode(self, tag: bytes = b"*") -> bytes:
        """The response line, CRLF included; untagged unless a tag is given."""
        text = self.text[:_MAX_TEXT].encode("ascii", "replace").translate(_NO_CONTROLS)
        code = b"[" + self.code + b"] " if self.code else b""
        return tag + b" " + self.condition + b" " + code + text + b"\r\n"


_NO_CONTROLS = bytes(octet if 32 <= octet < 127 else 63 for octet in range(256))


def OK(text: str, code: bytes | None = None) -> Status:
    """A status for a successful command."""
    return Status(b"OK", text, code)


def NO(text: str, code: bytes | None = None) -> Status:
    """A status for a well-formed command that failed."""
    return Status(b"NO", text, code)


def BAD(text: str, code: bytes | None = None) -> Status:
    """A status for a command that is malformed or not allowed in this state."""
    return Status(b"BAD", text, code)


def BYE(text: str, code: bytes | None = None) -> Status:
    """A status that announces the end of the connection."""
    return Status(b"BYE", text, code)


def untagged(payload: bytes) -> bytes:
    """An untagged response: `* payload` CRLF."""
    return b"* " + payload + b"\r\n"


def continuation(text: bytes = b"") -> bytes:
    """A continuation request: `+ text` CRLF (RFC 3501 7.5)."""
    return b"+ " + text + b"\r\n"


def permanent_flags(flags: Iterable[str]) -> bytes:
    """The PERMANENTFLAGS code: flags that the folder stores; `\\*` means any new keyword (RFC 3501 7.1)."""
    return b"PERMANENTFLAGS " + encoder.flag_list(flags)


def append_uid(uid_validity: int, uids: Iterable[Range]) -> bytes:
    """The APPENDUID code: the UIDs of appended messages (RFC 4315 3)."""
    return b"APPENDUID %d %b" % (uid_validity, encode_ranges(uids))


def copy_uid(uid_validity: int, sources: Iterable[Range], targets: Iterable[Range]) -> bytes:
    """The COPYUID code: source UIDs and target UIDs in the same order (RFC 4315 3)."""
    return b"COPYUID %d %b %b" % (uid_validity, encode_ranges(sources), encode_ranges(targets))
