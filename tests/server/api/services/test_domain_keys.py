"""AdminService: the keys that sign the mail of domains."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from restante.errors import (
    DomainKeyExists,
    DomainKeyNotFound,
    DomainKeyState,
    DomainNotFound,
    InvalidArgument,
    PermissionDenied,
    RestanteError,
)
from restante.methods import Method
from restante.v1 import methods
from restante.v1 import signing_pb2 as v1
from tests.server.api.people import ADMIN, Bench, gateway

RSA, ED25519 = v1.SigningAlgorithm.SIGNING_ALGORITHM_RSA_2048, v1.SigningAlgorithm.SIGNING_ALGORITHM_ED25519
DOMAIN = "example.test"


async def admin(bench: Bench, method: Method[Any, Any], request: Any) -> Any:
    return await bench.run(method, request, ADMIN)


async def create(bench: Bench, *keys: v1.NewDomainKey, domain: str = DOMAIN, **more: Any) -> list[v1.DomainKey]:
    request = v1.CreateDomainKeysRequest(domain=domain, keys=keys, request_id=secrets.token_bytes(16), **more)
    return list((await admin(bench, methods.CREATE_DOMAIN_KEYS, request)).keys)


async def test_a_domain_gets_a_key_of_each_algorithm(bench: Bench) -> None:
    request = v1.CreateDomainKeysRequest(domain="EXAMPLE.test", request_id=secrets.token_bytes(16))
    made = (await admin(bench, methods.CREATE_DOMAIN_KEYS, request)).keys
    assert [key.algorithm for key in made] == [RSA, ED25519]
    assert {key.domain for key in made} == {DOMAIN}
    for key in made:
        assert key.record_name == f"{key.selector}._domainkey.{DOMAIN}"
        assert "".join(key.record_strings) == key.record_text
        assert key.HasField("activated_at") and not key.HasField("publish_until")
    assert (await admin(bench, methods.CREATE_DOMAIN_KEYS, request)).keys == made  # the same request again
    listed = (await admin(bench, methods.LIST_DOMAIN_KEYS, v1.ListDomainKeysRequest())).keys
    assert sorted(key.selector for key in listed) == [key.selector for key in listed]
    assert {key.selector for key in listed} == {key.selector for key in made}


async def test_keys_are_listed_by_pages(bench: Bench) -> None:
    names = [f"key-{number}" for number in range(5)]
    for name in names:
        await create(bench, v1.NewDomainKey(algorithm=ED25519, selector=name))
    for domain in ("", DOMAIN):
        seen, token = [], ""
        while True:
            request = v1.ListDomainKeysRequest(domain=domain, page_size=2, page_token=token)
            answer = await admin(bench, methods.LIST_DOMAIN_KEYS, request)
            seen += [key.selector for key in answer.keys]
            token = answer.next_page_token
            if not token:
                break
        assert seen == names


async def test_a_rotation_overlaps(bench: Bench) -> None:
    await create(bench)
    new = await create(bench)
    request = v1.ActivateDomainKeysRequest(domain=DOMAIN, publish_days=3)
    changed = await admin(bench, methods.ACTIVATE_DOMAIN_KEYS, request)
    assert {key.selector for key in changed.activated} == {key.selector for key in new}
    for key in changed.retired:
        assert key.state == v1.DomainKeyState.DOMAIN_KEY_STATE_RETIRED
        assert key.publish_until.ToSeconds() - key.retired_at.ToSeconds() == 3 * 86_400
        assert not key.record_text.endswith("p=")
    revoked = v1.RevokeDomainKeyRequest(domain=DOMAIN, selector=changed.retired[0].selector)
    assert (await admin(bench, methods.REVOKE_DOMAIN_KEY, revoked)).key.record_text.endswith("p=")
    for key in changed.retired:
        gone = v1.DeleteDomainKeyRequest(domain=DOMAIN, selector=key.selector)
        await admin(bench, methods.DELETE_DOMAIN_KEY, gone)
        with pytest.raises(DomainKeyNotFound):
            await admin(bench, methods.DELETE_DOMAIN_KEY, gone)


BAD: list[tuple[Method[Any, Any], Any, type[RestanteError], str]] = [
    (
        methods.CREATE_DOMAIN_KEYS,
        v1.CreateDomainKeysRequest(domain=DOMAIN, keys=[v1.NewDomainKey(algorithm=ED25519, selector="a b")]),
        InvalidArgument,
        "keys.selector",
    ),
    (
        methods.CREATE_DOMAIN_KEYS,
        v1.CreateDomainKeysRequest(domain=DOMAIN, keys=[v1.NewDomainKey(selector="a")]),
        InvalidArgument,
        "keys.algorithm",
    ),
    (
        methods.CREATE_DOMAIN_KEYS,
        v1.CreateDomainKeysRequest(domain=DOMAIN, keys=[v1.NewDomainKey(algorithm=RSA)] * 2),
        InvalidArgument,
        "keys.algorithm",
    ),
    (
        methods.CREATE_DOMAIN_KEYS,
        v1.CreateDomainKeysRequest(domain=DOMAIN, keys=[v1.NewDomainKey(algorithm=RSA)] * 5),
        InvalidArgument,
        "keys",
    ),
    (methods.CREATE_DOMAIN_KEYS, v1.CreateDomainKeysRequest(domain="a b"), InvalidArgument, "domain"),
    (methods.CREATE_DOMAIN_KEYS, v1.CreateDomainKeysRequest(domain="example.org"), DomainNotFound, ""),
    (methods.LIST_DOMAIN_KEYS, v1.ListDomainKeysRequest(domain="example.org"), DomainNotFound, ""),
    (methods.LIST_DOMAIN_KEYS, v1.ListDomainKeysRequest(domain="a b"), InvalidArgument, "domain"),
    (
        methods.ACTIVATE_DOMAIN_KEYS,
        v1.ActivateDomainKeysRequest(domain=DOMAIN, publish_days=91),
        InvalidArgument,
        "publish_days",
    ),
    (
        methods.ACTIVATE_DOMAIN_KEYS,
        v1.ActivateDomainKeysRequest(domain=DOMAIN, selectors=["s"] * 5),
        InvalidArgument,
        "selectors",
    ),
    (methods.ACTIVATE_DOMAIN_KEYS, v1.ActivateDomainKeysRequest(domain=DOMAIN), DomainKeyNotFound, ""),
    (methods.REVOKE_DOMAIN_KEY, v1.RevokeDomainKeyRequest(domain=DOMAIN, selector="x"), DomainKeyNotFound, ""),
    (methods.DELETE_DOMAIN_KEY, v1.DeleteDomainKeyRequest(domain=DOMAIN, selector="here"), DomainKeyState, ""),
]


async def test_errors_name_the_field(bench: Bench) -> None:
    await create(bench, v1.NewDomainKey(algorithm=ED25519, selector="here"))
    for method, request, error, field in BAD:
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = secrets.token_bytes(16)
        with pytest.raises(error) as refused:
            await admin(bench, method, request)
        assert refused.value.metadata.get("field", "") == field, request
    with pytest.raises(DomainKeyExists):
        await create(bench, v1.NewDomainKey(algorithm=RSA, selector="HERE"))


async def test_only_administrators_reach_keys(bench: Bench) -> None:
    bob = await bench.caller(await bench.login("bob@example.test", "bob-demo"))
    for caller in (bob, gateway("relay")[0], gateway("smtp")[0]):
        for method, request in (
            (methods.CREATE_DOMAIN_KEYS, v1.CreateDomainKeysRequest(domain=DOMAIN, request_id=bytes(16))),
            (methods.LIST_DOMAIN_KEYS, v1.ListDomainKeysRequest()),
            (methods.ACTIVATE_DOMAIN_KEYS, v1.ActivateDomainKeysRequest(domain=DOMAIN)),
            (methods.REVOKE_DOMAIN_KEY, v1.RevokeDomainKeyRequest(domain=DOMAIN, selector="s")),
            (methods.DELETE_DOMAIN_KEY, v1.DeleteDomainKeyRequest(domain=DOMAIN, selector="s")),
        ):
            with pytest.raises(PermissionDenied):
                await bench.run(method, request, caller)


def test_no_message_of_the_contract_has_a_private_key() -> None:
    names = {field.name for message in v1.DESCRIPTOR.message_types_by_name.values() for field in message.fields}
    assert names and not any("private" in name or "secret" in name for name in names)
