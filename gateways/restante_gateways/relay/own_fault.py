"""Refusals of this relay, as against refusals of a message: they defer, since an administrator can mend them. *Pure.*

A configured server (`relay.routes`, `relay.smarthosts`) was chosen by our administrator. Its permanent refusal of our
login, our TLS or our name says nothing about the mail, which would otherwise all bounce. A server found by the DNS was
chosen by the recipient, and its refusals stay permanent, but for its demand of a TLS that has just failed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from restante_gateways.relay.outcomes import Outcome, from_reply, visible
from restante_gateways.relay.replies import Answer

CODES = frozenset({530, 534, 535, 538})  # RFC 4954 6, RFC 3207 4
STATUSES = frozenset({"5.7.8", "5.7.9", "5.7.12", "5.7.13"})  # of a login (RFC 4954 6, RFC 5248 2.4)
TLS_STATUSES = frozenset({"5.7.10", "5.7.11"})
TLS_FAILED, TLS_WANTED, LOGIN_WANTED = "4.7.5", "4.7.10", "4.7.0"
# Servers have no code of their own for a client that they do not relay for. A reply with another subject, such as an
# unknown address, may quote anything.
SUBJECTS = frozenset({"0", "5", "7"})  # of the status: none, protocol, policy (RFC 3463 3)
TEXTS = (
    "relay access denied",
    "relaying denied",
    "relay not permitted",
    "relaying not permitted",
    "relay prohibited",
    "unable to relay",
    "client host",  # rejected, or blocked by a list
    "helo command rejected",
    "invalid helo",
    "invalid credentials",
    "authentication required",
    "authentication is required",
    "not authenticated",
)
_SEARCHED = 1_000  # characters of a reply


@dataclass(frozen=True, slots=True)
class Blame:
    """The circumstances of a session in which a refusal is the fault of this relay."""

    configured: bool = False  # the server is one of our configuration
    tls_failed: str = ""  # the reason why the session is in clear although the server offers TLS

    def of_greeting(self, answer: Answer, host: str) -> Outcome:
        """The outcome of a refused greeting, EHLO or HELO, before anything of a message is sent."""
        outcome = from_reply(answer.code, answer.text, host)
        return _ours(outcome, f"4{outcome.status[1:]}") if outcome.final and self.configured else outcome

    def of_command(self, answer: Answer, host: str, *, dsn_passed_on: bool = False) -> Outcome:
        """The outcome of a reply within a transaction."""
        outcome = from_reply(answer.code, answer.text, host, dsn_passed_on=dsn_passed_on)
        if not outcome.final or not (self.configured or self.tls_failed):
            return outcome
        text = answer.text[:_SEARCHED].lower()
        if outcome.status in TLS_STATUSES or (answer.code == 530 and "starttls" in text):  # RFC 3207 4
            if self.tls_failed:
                return _deferred(outcome, TLS_FAILED, f"TLS has failed ({self.tls_failed}), and the server demands it")
            return _ours(outcome, TLS_WANTED)
        if not self.configured:
            return outcome
        if answer.code in CODES or outcome.status in STATUSES:
            return _ours(outcome, LOGIN_WANTED if outcome.status == "5.0.0" else f"4{outcome.status[1:]}")
        about_us = outcome.status.split(".")[1] in SUBJECTS and any(words in text for words in TEXTS)
        return _ours(outcome, LOGIN_WANTED) if about_us else outcome


def _ours(outcome: Outcome, status: str) -> Outcome:
    return replace(_deferred(outcome, status, "the server refuses this relay, not the message"), ours=True)


def _deferred(outcome: Outcome, status: str, why: str) -> Outcome:
    """The outcome as a temporary one, with its reply behind the reason."""
    return replace(outcome, final=False, status=status, diagnostic=visible(f"{why}: {outcome.diagnostic}"))
