"""Login: SASL steps on their way to the core, which alone decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restante.v1 import session_pb2
from restante_gateways.core import sasl
from restante_gateways.imap.grammar.responses import BAD, Status, continuation
from restante_gateways.net.addresses import Peer

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session


async def by_sasl(s: Session, mechanism: str, initial: sasl.Secret | None) -> session_pb2.Session | Status:
    """Carry an exchange between client and core to its end (RFC 3501 6.2.2). A Status says that the client broke off.

    Raises what the core raises.
    """
    exchange = sasl.Exchange(mechanism)
    sealed = b""  # the core's own state between steps
    try:
        step = exchange.begin(None if initial is None else initial.reveal())
        while True:
            if isinstance(step, sasl.Challenge):
                s.write(continuation(sasl.encode(step.octets)))
                step = exchange.answer(await s.next_line())
                continue
            answer = await s.authenticate_step(step.mechanism, step.octets, sealed)
            if answer.HasField("session"):
                return answer.session
            step, sealed = sasl.Challenge(answer.challenge), answer.exchange
    except sasl.Cancelled:
        return BAD("Authentication given up.")  # RFC 3501 6.2.2
    except sasl.MalformedResponse as error:
        return BAD(f"Authentication failed: {error}.")


def client_context(peer: Peer) -> session_pb2.ClientContext:
    """What the core is told of the client's connection."""
    return session_pb2.ClientContext(
        client_address=peer.client.host, listener=peer.listener, tls=peer.tls is not None, loopback=peer.loopback
    )
