"""Opening a connection to a server: greeting, EHLO, and the TLS that the rule of the hop demands."""

from __future__ import annotations

import ssl
from functools import partial

from restante_gateways.relay.commands import Offer
from restante_gateways.relay.outcomes import deferred
from restante_gateways.relay.own_fault import Blame
from restante_gateways.relay.peer import Broken, HandshakeFailed, Line, Patience
from restante_gateways.relay.routes import Hop
from restante_gateways.relay.tls.chains import Chain, presented
from restante_gateways.relay.tls.rules import Demand, TlsUnusable
from restante_gateways.relay.tls.security import Security, failure
from restante_gateways.relay.transaction import Unreachable
from restante_mail.authentication.tls_result import TlsResult


async def opened(hop: Hop, own_name: str, security: Security, patience: Patience) -> tuple[Line, Offer]:
    """A connection after EHLO that meets a demand of the hop's rule, the first one that can be met.

    A session that does not meet a demand ends before any command of a transaction; the next demand gets a connection of
    its own (RFC 3207 4.1). Raises Unreachable.
    """
    if hop.implicit:
        return await _greeted(hop, own_name, patience, security.context(hop.rule.demands[0]))
    problem = TlsUnusable(TlsResult.VALIDATION_FAILURE, "no demand")
    for number, demand in enumerate(hop.rule.demands):
        line, offer = await _greeted(hop, own_name, patience)
        if demand is Demand.CLEAR:
            line.tls_failed = problem.reason if number else ""
            return line, offer
        own_address = line.own_address
        try:
            found = await _secured(line, offer, hop, demand, own_name, security, patience)
        except TlsUnusable as unusable:
            problem = unusable
            if not number:
                _count_failure(security, hop, unusable, own_address)
            if line.open_still and not hop.rule.required:
                return line, offer  # STARTTLS is not offered: clear as it is
            await line.close()
        except BaseException:
            line.abandon()
            raise
        else:
            if not number and hop.rule.policy is not None:
                security.sessions.succeeded(hop.rule.policy)
            return line, found
    raise Unreachable(deferred(problem.status, f"{hop}: {problem.reason}"))


async def _greeted(
    hop: Hop, own_name: str, patience: Patience, context: ssl.SSLContext | None = None
) -> tuple[Line, Offer]:
    """A connection after EHLO; with a context, over TLS from its first octet. Raises Unreachable."""
    try:
        tls = None if context is None else (context, _server_name(hop) or hop.address)
        line, answer = await Line.open(hop.address, hop.port, patience, hop.end.address(hop.address) or "", tls)
    except HandshakeFailed as failed:
        raise Unreachable(deferred("4.7.5", f"{hop}: TLS: {failed}")) from None
    except Broken as broken:
        raise Unreachable(deferred("4.4.1", f"{hop}: {broken}")) from None
    try:
        offer = Offer()
        if answer.good:
            answer, offer = await line.hello(own_name)
    except Broken as broken:
        raise Unreachable(deferred("4.4.2", f"{hop}: {broken}")) from None
    except BaseException:
        line.abandon()
        raise
    if not answer.good:
        await line.close()
        raise Unreachable(Blame(hop.configured).of_greeting(answer, hop.host))
    return line, offer


async def _secured(
    line: Line, offer: Offer, hop: Hop, demand: Demand, own_name: str, security: Security, patience: Patience
) -> Offer:
    """Start TLS, judge the certificate and send EHLO again, since the offer in clear is void (RFC 3207 4.2).

    Raises TlsUnusable. The connection is open and unchanged then only if the server does not offer STARTTLS.
    """
    if not offer.starttls:
        raise TlsUnusable(TlsResult.STARTTLS_NOT_SUPPORTED, "the server does not offer STARTTLS", "4.7.4")
    try:
        answer = await line.secure(security.context(demand), _server_name(hop))
        if not answer.good:
            await line.close()
            said = f"the server refused STARTTLS: {answer.code} {answer.text}"
            raise TlsUnusable(TlsResult.STARTTLS_NOT_SUPPORTED, said, "4.7.4")
        chain = partial(_chain, hop, own_name, patience)
        await security.judge(line, hop.rule, demand, _server_name(hop) or "", chain)
        answer, offer = await line.hello(own_name)
    except HandshakeFailed as failed:
        raise failure(failed) from None
    except Broken as broken:
        raise TlsUnusable(TlsResult.VALIDATION_FAILURE, f"TLS: {broken}") from None
    except TlsUnusable:
        await line.close()
        raise
    if not answer.good:
        await line.close()
        raise TlsUnusable(TlsResult.VALIDATION_FAILURE, f"after STARTTLS: {answer.code} {answer.text}")
    return offer


async def _chain(hop: Hop, own_name: str, patience: Patience) -> Chain:
    """The certificate chain that the server presents on a further connection. Raises TlsUnusable, ChainRefused."""
    try:
        line, _ = await _greeted(hop, own_name, patience)
        return await presented(await line.handed_over(), _server_name(hop) or "", patience.tls)
    except (Unreachable, Broken) as error:
        raise TlsUnusable(TlsResult.VALIDATION_FAILURE, f"no certificate chain: {error}") from None


def _server_name(hop: Hop) -> str | None:
    """The name for SNI and for the certificate; None for an address literal."""
    return hop.rule.name or (None if hop.host.startswith("[") else hop.host)


def _count_failure(security: Security, hop: Hop, unusable: TlsUnusable, own_address: str) -> None:
    if hop.rule.policy is not None:
        security.sessions.failed(
            hop.rule.policy,
            unusable.result,
            unusable.reason,
            sending_address=own_address,
            host=hop.host,
            address=hop.address,
        )
