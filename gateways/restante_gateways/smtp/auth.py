"""AUTH, whole: any mechanism the core knows, names in any case, responses of 12,288 octets. RFC 4954."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from restante import errors
from restante_gateways.core import sasl
from restante_gateways.smtp import replies
from restante_gateways.smtp.errors import reply_to
from restante_gateways.smtp.lines import BadLine
from restante_gateways.smtp.replies import Refused, Reply, refuse
from restante_gateways.smtp.settings import Role

if TYPE_CHECKING:
    from restante_gateways.smtp.session import SmtpSession


async def authenticate(session: SmtpSession, argument: bytes) -> Reply:
    """The AUTH command: the client's exchange is carried to the core, which decides. RFC 4954 4."""
    if session.settings.role is not Role.SUBMISSION:
        return replies.NOT_OFFERED
    if not session.hello_name or not session.extended:
        return replies.NEED_HELLO
    if session.transaction is not None or session.identity is not None:
        return replies.OUT_OF_SEQUENCE
    if not session.authentication_allowed:
        return replies.NEED_TLS_TO_AUTHENTICATE
    words = argument.split(b" ")
    if not words[0] or len(words) > 2:
        raise refuse(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    mechanism = words[0].upper().decode("ascii", "replace")
    if mechanism not in session.settings.mechanisms:
        return replies.UNKNOWN_MECHANISM
    try:
        initial = words[1] if len(words) == 2 else None
        identity = await session.core.log_in(session.peer, mechanism, initial, partial(_ask, session))
    except sasl.Cancelled:
        return replies.AUTHENTICATION_CANCELLED
    except sasl.MalformedResponse:
        return replies.BAD_BASE64
    except errors.RestanteError as error:
        return _failure(session, error)
    session.authenticated(identity)
    return replies.AUTHENTICATED


async def _ask(session: SmtpSession, challenge: bytes) -> bytes:
    """Send a challenge, and read the client's response. The blank stays when the challenge is empty (RFC 4954 4)."""
    session.say_octets(b"334 " + challenge + b"\r\n")
    line = await session.next_line()
    if line is BadLine.TOO_LONG:
        raise Refused(replies.AUTHENTICATION_TOO_LONG)
    if isinstance(line, BadLine):
        raise Refused(replies.BAD_BASE64)
    return line


def _failure(session: SmtpSession, error: errors.RestanteError) -> Reply:
    """The reply to a refused or failed exchange. Guesses are counted; a core that is away is nobody's fault."""
    reply = reply_to(error)
    if not reply.is_permanent:
        return reply if reply.code != replies.OTHERWISE.code else replies.AUTHENTICATION_TEMPORARY
    session.login_failures += 1
    if session.login_failures >= session.settings.max_login_attempts:
        session.end(replies.TOO_MANY_ERRORS)
    return reply
