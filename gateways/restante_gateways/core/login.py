"""Login: a SASL exchange between a client and the core. Only the core verifies credentials."""

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
"""Sends one step to the core, with the sealed state from the core's last challenge. Raises RestanteError."""


def client_context(peer: Peer) -> session_pb2.ClientContext:
    """The facts of the client's connection that the core's decision needs."""
    return session_pb2.ClientContext(
        client_address=peer.client.host, listener=peer.listener, tls=peer.tls is not None, loopback=peer.loopback
    )


def verifier(core: Operations, peer: Peer, scope: session_pb2.Scope.ValueType) -> Verify:
    """A function that authenticates the client of one connection for sessions of this scope."""

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
    """Run a SASL exchange and return its session (RFC 4422 3). `initial` is the initial response, still in base64.

    Raises sasl.Cancelled and sasl.MalformedResponse for the client's lines, the core's refusal, and errors of `ask`.
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
    """Log in with name and password as a PLAIN message (`sasl.plain`). Raises RestanteError."""
    answer = await verify(sasl.Response("PLAIN", credentials), b"")
    return answer.session if answer.HasField("session") else _unfinished()


def _unfinished() -> NoReturn:
    raise errors.Internal("the core asked for another step after PLAIN, which has one (RFC 4616 2)")
