"""The outcome of a reply or a failure for a recipient (RFC 5321 4.2.1, RFC 3463). *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass

from restante_mail.envelope.status_codes import STATUS_CODE

MAX_DIAGNOSTIC_OCTETS = 500
TOO_MANY_RECIPIENTS = frozenset({"4.5.3", "5.5.3"})  # RFC 3463 3.6
_ENHANCED = re.compile(rf"({STATUS_CODE})(?:\s+|$)")
_INVISIBLE = re.compile(r"[\x00-\x20\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt for one recipient. Neither relayed nor final means deferred."""

    relayed: bool
    final: bool
    status: str  # enhanced status code
    diagnostic: str  # at most 500 octets
    remote_host: str = ""  # the server whose reply the diagnostic quotes; empty: the text is the relay's own
    dsn_passed_on: bool = False
    ours: bool = False  # an administrator of this relay can mend the cause

    @property
    def deferred(self) -> bool:
        """Whether the core will try it again later."""
        return not (self.relayed or self.final)


def from_reply(code: int, text: str, remote_host: str, *, dsn_passed_on: bool = False) -> Outcome:
    """The outcome of a server's reply. `text` has its lines, with octets that are not UTF-8 as surrogates."""
    relayed, final = 200 <= code < 300, 500 <= code < 600
    generic = "2.0.0" if relayed else "5.0.0" if final else "4.0.0"
    status = ""
    said: list[str] = []
    for line in text.split("\n"):
        match = _ENHANCED.match(line)
        # If the enhanced code has another class than the reply, the server is wrong and the reply counts (RFC 2034 4).
        if match and match[1][0] == generic[0]:
            status = status or match[1]
            line = line[match.end() :] if match[1] == status and said else line
        said.append(line)
    shown = visible(f"{code} {' '.join(said)}")
    return Outcome(relayed, final, status or generic, shown, remote_host, dsn_passed_on)


def deferred(status: str, diagnostic: str) -> Outcome:
    """A temporary failure found by the relay or the network, without a server's reply (RFC 3464 2.3.5)."""
    return Outcome(False, False, status, visible(diagnostic))


def failed(status: str, diagnostic: str) -> Outcome:
    """A permanent failure found by the relay, without a server's reply (RFC 3464 2.3.5)."""
    return Outcome(False, True, status, visible(diagnostic))


def visible(text: str) -> str:
    """The text as one line for a report, without control characters, cut to 500 octets of UTF-8."""
    octets = text.encode("utf-8", "surrogateescape")
    clean = _INVISIBLE.sub(" ", octets.decode("utf-8", "replace")).strip()
    return clean.encode()[:MAX_DIAGNOSTIC_OCTETS].decode("utf-8", "ignore")


def too_many(code: int, outcome: Outcome, accepted: int) -> bool:
    """Whether a refused RCPT only means that the transaction is full, so that another can carry the recipient.

    The reply is 452, or 552 from old servers, which is then not permanent (RFC 5321 4.5.3.1.10).
    """
    return accepted > 0 and code in (452, 552) and outcome.status in (*TOO_MANY_RECIPIENTS, "4.0.0", "5.0.0")


def worse(first: Outcome | None, second: Outcome) -> Outcome:
    """The outcome to report after several servers: a permanent failure only if all servers gave one."""
    return first if first is not None and first.deferred and second.final else second


SENDING_IS_OFF = deferred("4.3.2", "the relay's configuration has sending switched off (relay.send)")
OUR_FAULT = deferred("4.3.0", "an internal error of this relay")
