"""The reason of an outcome: a class for people and programs, from its status code and its reply (RFC 3463). *Pure.*

The enhanced status code decides. A reply without one has the code of its class alone (4.0.0, 5.0.0): then the reply
code decides, and for 550 and 554, which servers use for everything, a few texts with one meaning.
"""

from __future__ import annotations

import enum
import re

__all__ = ["Reason", "reason_of"]


class Reason(enum.IntEnum):
    """The reason of a failure or deferral. The numbers are those of OutcomeReason in the contract."""

    NONE = 0  # a success, or nothing known
    BAD_ADDRESS = 1
    MAILBOX_FULL = 2
    MAILBOX_DISABLED = 3
    POLICY = 4
    SIZE = 5
    CONTENT = 6
    ROUTING = 7
    CONNECTION = 8
    TLS = 9
    AUTHENTICATION = 10
    TEMPORARY = 11
    PROTOCOL = 12
    BAD_SENDER = 13
    EXPIRED = 14
    OTHER = 15


_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})")
_REPLY = re.compile(r"(?:^|[\]:] )([45]\d\d)(?=[ -]|$)")
_SEARCHED = 600  # characters of a diagnostic
# By subject and detail of the status code (RFC 3463 3 and the IANA registry).
_EXACT = {
    (1, 7): Reason.BAD_SENDER,
    (1, 8): Reason.BAD_SENDER,
    (2, 1): Reason.MAILBOX_DISABLED,
    (2, 2): Reason.MAILBOX_FULL,
    (2, 3): Reason.SIZE,
    (3, 4): Reason.SIZE,
    (4, 1): Reason.CONNECTION,
    (4, 2): Reason.CONNECTION,
    (4, 5): Reason.TEMPORARY,
    (4, 7): Reason.EXPIRED,
    (7, 4): Reason.TLS,
    (7, 5): Reason.TLS,
    (7, 8): Reason.AUTHENTICATION,
    (7, 9): Reason.AUTHENTICATION,
    (7, 10): Reason.TLS,
    (7, 11): Reason.TLS,
    (7, 12): Reason.AUTHENTICATION,
    (7, 13): Reason.AUTHENTICATION,
}
_SUBJECT = {
    1: Reason.BAD_ADDRESS,
    2: Reason.OTHER,
    3: Reason.OTHER,
    4: Reason.ROUTING,
    5: Reason.PROTOCOL,
    6: Reason.CONTENT,
    7: Reason.POLICY,
}
_REPLIES = {
    "530": Reason.AUTHENTICATION,
    "534": Reason.AUTHENTICATION,
    "535": Reason.AUTHENTICATION,
    "551": Reason.BAD_ADDRESS,
    "552": Reason.MAILBOX_FULL,  # RFC 5321 4.2.2: "exceeded storage allocation"
    "553": Reason.BAD_ADDRESS,  # "mailbox name not allowed"
    "556": Reason.BAD_ADDRESS,  # RFC 7504: the domain accepts no mail
}
_UNCLEAR = frozenset(("550", "554"))
_TEXTS = (
    ("user unknown", Reason.BAD_ADDRESS),
    ("unknown user", Reason.BAD_ADDRESS),
    ("no such user", Reason.BAD_ADDRESS),
    ("no such mailbox", Reason.BAD_ADDRESS),
    ("mailbox full", Reason.MAILBOX_FULL),
    ("mailbox is full", Reason.MAILBOX_FULL),
    ("over quota", Reason.MAILBOX_FULL),
    ("quota exceeded", Reason.MAILBOX_FULL),
)
_LASTING = frozenset((Reason.BAD_ADDRESS, Reason.OTHER))  # as a deferral, neither is certain


def reason_of(status: str, diagnostic: str) -> Reason:
    """The reason of an outcome with this enhanced status code and this diagnostic, which may quote a reply."""
    found = _STATUS.fullmatch(status)
    if found is None or found[1] == "2":
        return Reason.NONE
    subject, detail = int(found[2]), int(found[3])
    reply = _REPLY.search(diagnostic[:_SEARCHED])
    code = reply[1] if reply else ""
    if subject == 0:
        reason = _by_reply(code, diagnostic[:_SEARCHED].lower())
    elif (subject, detail) == (7, 0) and code in _REPLIES:
        reason = _REPLIES[code]
    else:
        reason = _EXACT.get((subject, detail)) or _SUBJECT.get(subject, Reason.OTHER)
    return Reason.TEMPORARY if found[1] == "4" and reason in _LASTING else reason


def _by_reply(code: str, text: str) -> Reason:
    if code in _UNCLEAR:
        return next((reason for words, reason in _TEXTS if words in text), Reason.OTHER)
    return _REPLIES.get(code, Reason.OTHER)
