"""Login: a SASL exchange between a client and the core, which alone decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from restante import errors
from restante.v1 import methods, session_pb2
from restante_gateways.core import sasl
from restante_gateways.core.link import Operations
from restante_gateways.net.addresses import Peer

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge, already in base64, and returns the client's next line without its CRLF."""

Verify = Callable[[sasl.Response, bytes], Awaitable[session_pb2.AuthenticateResponse]]
"""Puts one step to the core, with the core's own state that came with its last challenge. Raises RestanteError."""


def client_context(peer: Peer) -> session_pb2.ClientContext:
    """The client's connection, as the core judges it."""
    return session_pb2.ClientContext(
        client_address=peer.client.host, listener=peer.listener, tls=peer.tls is not None, loopback=peer.loopback
    )


def verifier(core: Operations, peer: Peer, scope: session_pb2.Scope.ValueType) -> Verify:
    """Authenticates clients of one connection for sessions of this scope."""

    async def verify(response: sasl.Response, exchange: bytes) -> session_pb2.AuthenticateResponse:
        request = session_pb2.AuthenticateRequest(
            mechanism=response.mechanism,
            response=response.octets.reveal(),
            exchange=exchange,
            scope=scope,
            client=client_context(peer),
        )
        return await core.execute(methods.AUTHENTICATE, request, client_address=peer.client.host)

    return verify


async def by_exchange(verify: Verify, mechanism: str, initial: bytes | None, ask: Ask) -> session_pb2.Session:
    """The session at the end of an exchange (RFC 4422 3). `initial` is the initial response, still in base64.

    Raises sasl.Cancelled and sasl.MalformedResponse for the client's lines, the core's refusal, and what `ask` raises.
    """
    exchange = sasl.Exchange(mechanism)
    step, sealed = exchange.begin(initial), b""
    while True:
        if isinstance(step, sasl.Challenge):
            step = exchange.answer(await ask(sasl.encode(step.octets)))
            continue
        answer = await verify(step, sealed)
        if answer.HasField("session"):
            return answer.session
        step, sealed = sasl.Challenge(answer.challenge), answer.exchange


async def by_password(verify: Verify, credentials: sasl.Secret) -> session_pb2.Session:
    """The session for a PLAIN message (`sasl.plain`), of commands that take name and password. Raises RestanteError."""
    answer = await verify(sasl.Response("PLAIN", credentials), b"")
    return answer.session if answer.HasField("session") else _unfinished()


def _unfinished() -> NoReturn:
    raise errors.Internal("the core wants another step after PLAIN, which has one (RFC 4616 2)")
