"""AdminService: the keys that sign the outbound mail of domains. No answer has a private key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Connection

from restante.errors import InvalidAddress, InvalidArgument
from restante.v1 import methods
from restante.v1 import signing_pb2 as v1
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.api.services.violations import collected
from restante_server.directory import addresses, domain_keys, signing_keys
from restante_server.directory.domain_keys import DomainKey, NewKey
from restante_server.directory.signing_keys import ALGORITHMS, Algorithm, KeyPair

handlers = Handlers()

MAX_KEYS = 4
MAX_PUBLISH_DAYS = 90


@handlers.direct(methods.CREATE_DOMAIN_KEYS, rule=administrators)
async def create_domain_keys(call: Call, request: v1.CreateDomainKeysRequest) -> v1.CreateDomainKeysResponse:
    """Make the keys on a thread, then write."""
    wanted = _wanted(request)
    known = await call.known_answer(request, ())
    if known is not None:
        assert isinstance(known, v1.CreateDomainKeysResponse)
        return known
    pairs = await asyncio.to_thread(lambda: [signing_keys.generate(algorithm) for algorithm, _ in wanted])
    return await call.write(request, lambda tx: _created(tx, call, request, pairs, wanted), claims=(), rows=len(pairs))


def _wanted(request: v1.CreateDomainKeysRequest) -> list[tuple[Algorithm, str]]:
    """(algorithm, selector or "") of the keys to make. Raises InvalidArgument."""
    given = list(request.keys) or [
        v1.NewDomainKey(algorithm=v1.SigningAlgorithm.ValueType(algorithm)) for algorithm in ALGORITHMS
    ]
    wanted: list[tuple[Algorithm, str]] = []
    with collected() as bad:
        name = ""
        with bad.noting("domain"):
            name = _domain(request.domain)
        bad.require(len(given) <= MAX_KEYS, "keys", f"must be at most {MAX_KEYS}")
        algorithms = [key.algorithm for key in given]
        bad.require(len(set(algorithms)) == len(algorithms), "keys.algorithm", "must be another for each key")
        for key in given[:MAX_KEYS]:
            with bad.noting("keys.algorithm"):
                algorithm = _algorithm(key.algorithm)
                with bad.noting("keys.selector"):
                    wanted.append((algorithm, signing_keys.selector(key.selector, name) if key.selector else ""))
    return wanted


def _algorithm(given: int) -> Algorithm:
    try:
        return Algorithm(given)
    except ValueError:
        raise InvalidArgument(field="keys.algorithm", problem="must be RSA_2048 or ED25519") from None


def _created(
    tx: Connection,
    call: Call,
    request: v1.CreateDomainKeysRequest,
    pairs: Sequence[KeyPair],
    wanted: Sequence[tuple[Algorithm, str]],
) -> v1.CreateDomainKeysResponse:
    new = [NewKey(pair, selector) for pair, (_, selector) in zip(pairs, wanted, strict=True)]
    ring = call.core.directory.keys
    made = domain_keys.create(tx, ring, call.now, request.domain, new, only_prepare=request.only_prepare)
    return v1.CreateDomainKeysResponse(keys=map(_key, made))


@handlers.read(methods.LIST_DOMAIN_KEYS, rule=administrators)
def list_domain_keys(tx: Connection, call: Call, request: v1.ListDomainKeysRequest) -> v1.ListDomainKeysResponse:
    page = pages.Page.asked(f"domain keys {request.domain}", request, call.result_octets, parts=2)
    name = _domain(request.domain) if request.domain else ""
    found = domain_keys.listing(tx, name, (page.key[0], page.key[1]), page.most)
    answer = v1.ListDomainKeysResponse()
    return page.fill(answer, answer.keys, found, _key, lambda last: (last.domain, last.selector))


@handlers.write(methods.ACTIVATE_DOMAIN_KEYS, rule=administrators)
def activate_domain_keys(
    tx: Connection, call: Call, request: v1.ActivateDomainKeysRequest
) -> v1.ActivateDomainKeysResponse:
    with collected() as bad:
        with bad.noting("domain"):
            _domain(request.domain)
        bad.require(len(request.selectors) <= MAX_KEYS, "selectors", f"must be at most {MAX_KEYS}")
        days = request.publish_days or domain_keys.PUBLISH_DAYS
        bad.require(1 <= days <= MAX_PUBLISH_DAYS, "publish_days", f"must be 1 to {MAX_PUBLISH_DAYS}")
    activated, retired = domain_keys.activate(tx, call.now, request.domain, request.selectors, days)
    return v1.ActivateDomainKeysResponse(activated=map(_key, activated), retired=map(_key, retired))


@handlers.write(methods.REVOKE_DOMAIN_KEY, rule=administrators)
def revoke_domain_key(tx: Connection, call: Call, request: v1.RevokeDomainKeyRequest) -> v1.RevokeDomainKeyResponse:
    name = _domain(request.domain)
    return v1.RevokeDomainKeyResponse(key=_key(domain_keys.revoke(tx, call.now, name, request.selector)))


@handlers.write(methods.DELETE_DOMAIN_KEY, rule=administrators)
def delete_domain_key(tx: Connection, call: Call, request: v1.DeleteDomainKeyRequest) -> v1.DeleteDomainKeyResponse:
    domain_keys.remove(tx, _domain(request.domain), request.selector)
    return v1.DeleteDomainKeyResponse()


def _domain(name: str) -> str:
    """A domain's name in A-labels. Raises InvalidArgument."""
    try:
        return addresses.ascii_domain(name)
    except InvalidAddress as error:
        raise InvalidArgument(field="domain", problem=error.metadata["problem"]) from error


def _key(found: DomainKey) -> v1.DomainKey:
    made = v1.DomainKey(
        domain=found.domain,
        selector=found.selector,
        algorithm=v1.SigningAlgorithm.ValueType(found.algorithm),
        state=v1.DomainKeyState.ValueType(found.state),
        record_name=found.record_name,
        record_text=found.record_text,
        record_strings=signing_keys.record_strings(found.record_text),
        prepared_at=convert.timestamp(found.prepared_at),
    )
    for field, moment in (
        (made.activated_at, found.activated_at),
        (made.retired_at, found.retired_at),
        (made.publish_until, found.publish_until),
        (made.revoked_at, found.revoked_at),
    ):
        if moment is not None:
            field.CopyFrom(convert.timestamp(moment))
    return made
