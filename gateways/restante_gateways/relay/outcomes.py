"""What a reply or a failure means for a recipient (RFC 5321 4.2.1, RFC 3463). *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_DIAGNOSTIC = 500  # characters
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended for one recipient. Neither relayed nor final: it is tried again later."""

    relayed: bool
    final: bool
    status: str  # enhanced status code
    diagnostic: str
    remote_host: str = ""
    dsn_passed_on: bool = False


def from_reply(code: int, text: str, remote_host: str, *, dsn_passed_on: bool = False) -> Outcome:
    """What a server's reply means."""
    said = " ".join(text.split())
    match = _ENHANCED.match(said)
    relayed, final = 200 <= code < 300, 500 <= code < 600
    generic = "2.0.0" if relayed else "5.0.0" if final else "4.0.0"
    # A code of another class than the reply's is a mistake of that server: the reply counts (RFC 2034 4).
    status = match[1] if match and match[1][0] == generic[0] else generic
    return Outcome(relayed, final, status, f"{code} {said}"[:MAX_DIAGNOSTIC], remote_host, dsn_passed_on)


def deferred(status: str, diagnostic: str, remote_host: str = "") -> Outcome:
    """Tried again later, for a reason of our own or of the network."""
    return Outcome(False, False, status, diagnostic[:MAX_DIAGNOSTIC], remote_host)


def failed(status: str, diagnostic: str, remote_host: str = "") -> Outcome:
    """It will never go, for a reason of our own."""
    return Outcome(False, True, status, diagnostic[:MAX_DIAGNOSTIC], remote_host)


SENDING_IS_OFF = deferred("4.3.2", "sending is switched off here (relay.send)")
NOT_SMTPUTF8 = "the next server does not take internationalised addresses (SMTPUTF8)"
NOT_8BIT = "the next server does not take 8-bit content (8BITMIME)"
