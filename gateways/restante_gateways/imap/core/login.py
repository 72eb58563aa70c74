"""Login to the core with the scope IMAP."""

from __future__ import annotations

from typing import TypeAlias

from restante.link import CoreLink
from restante.v1 import methods, session_pb2
from restante_gateways.core.login import Verify, client_context, verifier
from restante_gateways.net.addresses import Peer

NewSession: TypeAlias = session_pb2.Session
"""A session that the core has just opened, for `AccountSessions.keep`."""

_MECHANISMS_SECONDS = 2.0  # timeout; the client's greeting waits for the answer


async def mechanisms(link: CoreLink, peer: Peer) -> tuple[str, ...]:
    """The SASL mechanisms that the core offers to such a client. Raises restante.errors."""
    request = session_pb2.GetMechanismsRequest(client=client_context(peer))
    answer = await link.execute(methods.GET_MECHANISMS, request, timeout=_MECHANISMS_SECONDS, independent=True)
    return tuple(answer.mechanisms)


def verify_for(link: CoreLink, peer: Peer) -> Verify:
    """The function that has the core verify a client's credentials."""
    return verifier(link, peer, session_pb2.SCOPE_IMAP)
