"""What a client is told when the core refuses or is away: the one table of POP3."""

from __future__ import annotations

from restante import errors
from restante_gateways.core import refusals
from restante_gateways.pop3.protocol import Response, negative
from restante_process.limits import Refusal

REPLIES: dict[type[errors.RestanteError], Response] = {
    errors.AuthenticationFailed: negative("authentication failed", "AUTH"),  # RFC 3206 4
    errors.ExchangeInvalid: negative("the exchange took too long, begin again", "AUTH"),
    errors.MechanismNotSupported: negative("mechanism not supported"),
    errors.TlsRequired: negative("TLS is required before authentication", "AUTH"),
    errors.PermissionDenied: negative("this account has no access by POP3", "AUTH"),
    errors.MailboxNotFound: negative("this account has no maildrop", "SYS/PERM"),
    errors.InvalidSession: negative("the session is over, log in again", "AUTH"),
    errors.SessionExpired: negative("the session is over, log in again", "AUTH"),
    errors.SessionRevoked: negative("the session was ended, log in again", "AUTH"),
    errors.TooManyAttempts: negative("too many failed logins, wait a while", "SYS/TEMP"),
    errors.AccountLimitReached: negative("this account does too much at once, try again later", "SYS/TEMP"),
    errors.MaildropInUse: negative("the maildrop is open in another session", "IN-USE"),  # RFC 2449 8.1.2
    errors.LeaseLost: negative("the maildrop was given to another session; nothing was deleted", "IN-USE"),
    # Without a code: SYS tells of a fault of the system (RFC 3206 4), and here another session removed the message.
    errors.MessageNotFound: negative(
        "another session removed this message over an hour ago, and it cannot be read now"
    ),
}
TEXTS: refusals.Texts = {errors.InvalidArgument: ("{field}: {problem}",)}
OTHERWISE = negative(
    "the server cannot do this now, try again later", "SYS/TEMP"
)  # our own bug must lose nobody's mail
REFUSALS = {refusal: bytes(negative(f"{refusal.value}, try again later", "SYS/TEMP")) for refusal in Refusal}


def response_to(error: errors.RestanteError) -> Response:
    """The response that tells the client of `error`."""
    text = refusals.text_of(error, TEXTS)
    return REPLIES.get(type(error), OTHERWISE) if text is None else negative(text, "SYS/PERM")


def ends_session(error: errors.RestanteError) -> bool:
    """Whether there is no point in going on after `error`."""
    return isinstance(error, (errors.InvalidSession, errors.SessionExpired, errors.SessionRevoked, errors.LeaseLost))
