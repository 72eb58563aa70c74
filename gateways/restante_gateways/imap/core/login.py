"""Login to the core, for the scope of IMAP."""

from __future__ import annotations

from typing import TypeAlias

from restante.link import CoreLink
from restante.v1 import methods, session_pb2
from restante_gateways.core.login import Verify, client_context, verifier
from restante_gateways.net.addresses import Peer

NewSession: TypeAlias = session_pb2.Session
"""A session as the core has just given it, for `AccountSessions.keep`."""

_MECHANISMS_SECONDS = 2.0  # a client waits for its greeting


async def mechanisms(link: CoreLink, peer: Peer) -> tuple[str, ...]:
    """The SASL mechanisms that the core offers to such a client. Raises restante.errors."""
    request = session_pb2.GetMechanismsRequest(client=client_context(peer))
    answer = await link.execute(methods.GET_MECHANISMS, request, timeout=_MECHANISMS_SECONDS, independent=True)
    return tuple(answer.mechanisms)


def verify_for(link: CoreLink, peer: Peer) -> Verify:
    """Puts credentials of a client to the core."""
    return verifier(link, peer, session_pb2.SCOPE_IMAP)
