"""AUTH (RFC 4954): all configured mechanisms, in any letter case, with responses of up to 12,288 octets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from restante import errors
from restante_gateways.core import sasl
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp import replies
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.command_loop import FATAL_LINES
from restante_gateways.smtp.core import Core, Identity
from restante_gateways.smtp.errors import reply_to
from restante_gateways.smtp.lines import BadLine
from restante_gateways.smtp.replies import OTHERWISE, Refused, Reply, SessionOver, refuse


def parse(argument: bytes, mechanisms: Sequence[str]) -> tuple[str, bytes | None]:
    """Parse the mechanism and the optional initial response, still in base64. Raises Refused."""
    words = argument.split(b" ")
    if not words[0] or len(words) > 2:
        raise refuse(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    mechanism = words[0].upper().decode("ascii", "replace")
    if mechanism not in mechanisms:
        raise Refused(replies.UNKNOWN_MECHANISM)
    return mechanism, words[1] if len(words) == 2 else None


async def exchange(channel: Channel, core: Core, peer: Peer, mechanism: str, initial: bytes | None) -> Identity:
    """Run the exchange and return the user.

    Raises Refused for a malformed response, and RestanteError for the core's refusal.
    """
    try:
        return await core.log_in(peer, mechanism, initial, partial(_ask, channel))
    except sasl.Cancelled:
        raise Refused(replies.AUTHENTICATION_CANCELLED) from None
    except sasl.MalformedResponse:
        raise Refused(replies.BAD_BASE64) from None


async def _ask(channel: Channel, challenge: bytes) -> bytes:
    """Send a challenge and read the client's response. An empty challenge keeps its space (RFC 4954 4)."""
    channel.say_octets(b"334 " + challenge + b"\r\n")
    line = await channel.next_line()
    if line in FATAL_LINES:
        raise SessionOver(replies.BAD_BASE64)
    if line is BadLine.TOO_LONG:
        raise Refused(replies.AUTHENTICATION_TOO_LONG)
    if isinstance(line, BadLine):
        raise Refused(replies.BAD_BASE64)
    return line


def refusal(error: errors.RestanteError) -> Reply:
    """The reply to a refused or failed exchange."""
    reply = reply_to(error)
    return replies.AUTHENTICATION_TEMPORARY if reply.code == OTHERWISE.code else reply
