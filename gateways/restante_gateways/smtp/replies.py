"""SMTP replies and their encoding (RFC 5321 4.2, RFC 2034, RFC 3463). *Pure.*"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from restante_mail.envelope.status_codes import is_status_code

MAX_REPLY_LINE_OCTETS = 512  # with CRLF, RFC 5321 4.5.3.1.5
_UNSAFE = re.compile(r"[^\t\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: a three-digit code, an enhanced code (RFC 3463; may be empty) and text.

    Text of several lines becomes a multi-line reply; every line carries the enhanced code (RFC 2034 4).
    """

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"not a reply code: {self.code}")
        if self.enhanced and (not is_status_code(self.enhanced) or self.enhanced[0] != str(self.code)[0]):
            raise ValueError(f"enhanced code {self.enhanced!r} does not belong to {self.code}")

    @property
    def is_error(self) -> bool:
        """Whether the command was refused temporarily (4yz) or permanently (5yz)."""
        return self.code >= 400

    @property
    def is_permanent(self) -> bool:
        """Whether repeating the command is pointless (5yz)."""
        return self.code >= 500

    def encode(self) -> bytes:
        """The octets of the reply: lines of at most 512 octets, in printable ASCII."""
        return _encoded(self)


@functools.lru_cache(maxsize=256)  # most replies are constants
def _encoded(reply: Reply) -> bytes:
    lines = reply.text.split("\n")
    prefix = f"{reply.enhanced} " if reply.enhanced else ""
    room = MAX_REPLY_LINE_OCTETS - len("250-\r\n") - len(prefix)
    octets = bytearray()
    for number, line in enumerate(lines, 1):
        mark = " " if number == len(lines) else "-"
        octets += f"{reply.code}{mark}{prefix}{_UNSAFE.sub('?', line)[:room]}\r\n".encode("ascii")
    return bytes(octets)


class Refused(Exception):
    """A command is refused; `reply` goes to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.code} {reply.enhanced} {reply.text}")
        self.reply = reply


class SessionOver(Exception):
    """The session ends at once: the client has stopped sending, or the server reads no more commands.

    `reply` is the final reply, None for no reply.
    """

    def __init__(self, reply: Reply | None) -> None:
        super().__init__("" if reply is None else reply.text)
        self.reply = reply


def refuse(code: int, enhanced: str, text: str) -> Refused:
    """The exception for a refusal, for the caller to raise."""
    return Refused(Reply(code, enhanced, text))


# A bug or an unreachable core must never make the sender's server bounce mail.
OTHERWISE = Reply(451, "4.3.0", "Temporary failure, try again later")
OK = Reply(250, "2.0.0", "OK")
CLOSING = Reply(221, "2.0.0", "Bye")
SHUTTING_DOWN = Reply(421, "4.3.2", "Service shutting down, try again later")
SESSION_ENDED = Reply(421, "4.7.0", "Your login session was ended, authenticate again")
TIMED_OUT = Reply(421, "4.4.2", "Timeout, closing the connection")
TOO_SLOW = Reply(421, "4.4.2", "The message arrives too slowly, closing the connection")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing the connection")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "Too many commands without a message, closing the connection")
NOT_HTTP = Reply(421, "4.7.0", "This is SMTP, not HTTP; closing the connection")
START_MAIL_INPUT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")

UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")  # RFC 5321 4.5.3.1.10
BAD_LINE_END = Reply(500, "5.5.2", "A line must end with CR LF")  # RFC 5321 2.3.8
NOT_OFFERED = Reply(502, "5.5.1", "Command not available on this connection")
OUT_OF_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
NEED_HELLO = Reply(503, "5.5.1", "Send EHLO or HELO first")
NEED_MAIL = Reply(503, "5.5.1", "Need MAIL command first")
NEED_RECIPIENT = Reply(503, "5.5.1", "Need RCPT command first")
NO_VALID_RECIPIENT = Reply(554, "5.5.1", "No valid recipients")
CONTENT_BEGUN = Reply(503, "5.5.1", "The message has begun with BDAT, send BDAT or RSET")  # RFC 3030 2
NESTED_MAIL = Reply(503, "5.5.1", "A mail transaction is open, send RSET first")
NEED_TLS = Reply(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 4
NEED_TLS_TO_AUTHENTICATE = Reply(538, "5.7.11", "Encryption required for authentication")
NEED_AUTHENTICATION = Reply(530, "5.7.0", "Authentication required")  # RFC 4954 6
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")  # not 552, RFC 5321 4.5.3.1.10
MESSAGE_TOO_BIG = Reply(552, "5.3.4", "Message size exceeds the maximum")  # RFC 1870 6.1
NULL_PATH_REFUSED = Reply(553, "5.1.3", "The null path cannot be a recipient")
CANNOT_VERIFY = Reply(252, "2.5.0", "Cannot verify, but will accept mail and attempt delivery")  # RFC 5321 3.5.3
AUTHENTICATED = Reply(235, "2.7.0", "Authentication successful")
BAD_CREDENTIALS = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTHENTICATION_TEMPORARY = Reply(454, "4.7.0", "Temporary authentication failure")  # RFC 4954 6
AUTHENTICATION_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
BAD_BASE64 = Reply(501, "5.5.2", "Cannot decode base64")
AUTHENTICATION_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")  # RFC 4954 6
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
