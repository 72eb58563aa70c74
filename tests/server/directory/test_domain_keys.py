"""The keys of a domain: at most one of an algorithm signs, and no rotation of the sealing keys loses one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from sqlalchemy import select

from restante.errors import DomainKeyExists, DomainKeyNotFound, DomainKeyState, DomainNotFound, InvalidArgument
from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import domain_keys, domains, keys, signing_keys
from restante_server.directory.domain_keys import DomainKey, KeyState, NewKey
from restante_server.directory.keys import DAY, KeyRing
from restante_server.directory.service import Directory
from restante_server.directory.signing_keys import Algorithm
from tests.server.directory.material import NOW, SETTINGS

PAIRS = {algorithm: signing_keys.generate(algorithm) for algorithm in Algorithm}
BOTH = [NewKey(PAIRS[algorithm], "") for algorithm in Algorithm]
ED25519 = PAIRS[Algorithm.ED25519]
DOMAIN = "example.test"


async def write(database: Database, function: Any, *arguments: Any, **more: Any) -> Any:
    return await database.write(Write(lambda tx: function(tx, *arguments, **more)))


async def ring(database: Database) -> KeyRing:
    return KeyRing(await database.read(keys.load))


async def create(database: Database, new: list[NewKey], name: str = DOMAIN, **more: Any) -> list[DomainKey]:
    made: list[DomainKey] = await write(database, domain_keys.create, await ring(database), NOW, name, new, **more)
    return made


async def states(database: Database) -> dict[str, KeyState]:
    return {key.selector: key.state for key in await database.read(domain_keys.of_domain, DOMAIN)}


async def test_the_first_keys_sign_at_once_and_later_ones_wait(store: Database) -> None:
    first = await create(store, BOTH)
    later = await create(store, BOTH)
    assert [key.state for key in first] == [KeyState.ACTIVE] * 2
    assert [key.state for key in later] == [KeyState.PREPARED] * 2
    assert [key.selector for key in (*first, *later)] == [
        f"{name}-20260921{number}" for number in ("", "-2") for name in ("rsa", "ed25519")
    ]
    assert {key.selector for key in await store.read(domain_keys.signing, DOMAIN)} == {key.selector for key in first}


async def test_keys_that_are_only_prepared_sign_nothing(store: Database) -> None:
    assert [key.state for key in await create(store, BOTH, only_prepare=True)] == [KeyState.PREPARED] * 2
    assert await store.read(domain_keys.signing, DOMAIN) == []


async def test_an_activation_retires_the_keys_before_and_may_be_taken_back(store: Database) -> None:
    await create(store, [NewKey(ED25519, "one")])
    await create(store, [NewKey(ED25519, "two"), NewKey(PAIRS[Algorithm.RSA_2048], "other")])
    activated, retired = await write(store, domain_keys.activate, NOW + 1, DOMAIN, [], 7)
    assert [key.selector for key in activated] == ["two"]
    assert [(key.selector, key.retired_at, key.publish_until) for key in retired] == [
        ("one", NOW + 1, NOW + 1 + 7 * DAY)
    ]
    assert await states(store) == {"one": KeyState.RETIRED, "two": KeyState.ACTIVE, "other": KeyState.ACTIVE}
    activated, retired = await write(store, domain_keys.activate, NOW + 2, DOMAIN, ["one"])
    assert (activated[0].state, activated[0].publish_until) == (KeyState.ACTIVE, None)
    assert [key.selector for key in retired] == ["two"]
    assert await write(store, domain_keys.activate, NOW + 3, DOMAIN, ["one"]) == (activated, [])  # harmless to repeat


async def test_an_activation_that_makes_no_sense_is_refused(store: Database) -> None:
    await create(store, [NewKey(ED25519, "one")])
    await create(store, [NewKey(ED25519, "two")])
    await write(store, domain_keys.revoke, NOW, DOMAIN, "two")
    await create(store, [NewKey(ED25519, "three")])
    for selectors, error in (
        (["one", "three"], InvalidArgument),
        (["two"], DomainKeyState),
        (["four"], DomainKeyNotFound),
    ):
        with pytest.raises(error):
            await write(store, domain_keys.activate, NOW, DOMAIN, selectors)
    await write(store, domain_keys.activate, NOW, DOMAIN, [])
    with pytest.raises(DomainKeyNotFound):  # nothing is prepared any more
        await write(store, domain_keys.activate, NOW, DOMAIN, [])
    with pytest.raises(DomainNotFound):
        await write(store, domain_keys.activate, NOW, "example.org", [])


async def test_a_revoked_key_has_no_private_part_and_an_empty_record(store: Database) -> None:
    (key,) = await create(store, [NewKey(ED25519, "one")])
    assert key.record_text.startswith("v=DKIM1; k=ed25519; p=") and not key.record_text.endswith("p=")
    revoked = await write(store, domain_keys.revoke, NOW + 5, DOMAIN, "ONE")
    assert (revoked.state, revoked.revoked_at, revoked.record_text) == (
        KeyState.REVOKED,
        NOW + 5,
        "v=DKIM1; k=ed25519; p=",
    )
    assert await write(store, domain_keys.revoke, NOW + 9, DOMAIN, "one") == revoked
    assert await store.read(lambda tx: tx.scalars(select(schema.domain_key.c.private_key)).all()) == [None]
    assert await store.read(domain_keys.signing, DOMAIN) == []


async def test_selectors_are_unique_and_an_active_key_stays(store: Database) -> None:
    await create(store, [NewKey(ED25519, "one")])
    with pytest.raises(DomainKeyExists) as refused:
        await create(store, [NewKey(PAIRS[Algorithm.RSA_2048], "one")])
    assert refused.value.metadata == {"domain": DOMAIN, "selector": "one"}
    with pytest.raises(DomainKeyState):
        await write(store, domain_keys.remove, DOMAIN, "one")
    await write(store, domain_keys.revoke, NOW, DOMAIN, "one")
    await write(store, domain_keys.remove, DOMAIN, "one")
    with pytest.raises(DomainKeyNotFound):
        await write(store, domain_keys.remove, DOMAIN, "one")
    with pytest.raises(DomainNotFound):
        await create(store, BOTH, "example.org")


async def test_the_keys_of_the_nearest_domain_sign_for_the_domains_below(store: Database) -> None:
    await write(store, domains.create, NOW, "lists.example.test")
    await create(store, BOTH)

    async def names(author: str) -> list[str]:
        return [key.domain for key in await store.read(domain_keys.signing, author)]

    assert await names("lists.example.test") == await names("mx.example.test") == [DOMAIN] * 2
    await create(store, [NewKey(ED25519, "")], "lists.example.test")
    assert await names("a.lists.example.test") == ["lists.example.test"]
    assert await names("test") == await names("notexample.test") == await names("") == []


async def test_private_keys_outlive_the_sealing_keys(directory: Directory) -> None:
    database = directory.db
    await create(database, BOTH)
    for rotation in range(1, 5):  # the key that sealed first is deleted long before the last rotation
        await directory.tidy(NOW + rotation * SETTINGS.sessions.key_days * DAY)
    sealed = await database.read(domain_keys.signing, DOMAIN)
    assert {key.algorithm: key.open(await ring(database)) for key in sealed} == {
        algorithm: pair.private for algorithm, pair in PAIRS.items()
    }


async def test_no_key_opens_under_another_name(store: Database) -> None:
    await create(store, [NewKey(ED25519, "one")])
    (sealed,) = await store.read(domain_keys.signing, DOMAIN)
    with pytest.raises(keys.NotSealed):
        sealed._replace(selector="two").open(await ring(store))


async def test_a_removed_domain_takes_its_keys_along(store: Database) -> None:
    await create(store, BOTH)
    await write(store, domains.remove, DOMAIN)
    assert await store.read(lambda tx: tx.scalars(select(schema.domain_key.c.key_id)).all()) == []


def test_a_pair_belongs_together_and_shows_no_secret() -> None:
    for algorithm, pair in PAIRS.items():
        public = load_der_private_key(pair.private, None).public_key()
        if algorithm is Algorithm.RSA_2048:
            assert load_der_public_key(pair.public) == public
        else:
            assert public.public_bytes(Encoding.Raw, PublicFormat.Raw) == pair.public
        assert pair.private.hex() not in repr(pair) and str(pair.private) not in repr(pair)


def test_selectors_are_labels() -> None:
    assert signing_keys.selector("S1.Mail-a", DOMAIN) == "s1.mail-a"
    for bad in ("", "a..b", ".a", "-a", "a-", "a_b", "a b", "ä", "a" * 64, "a\n", ".".join(["a" * 60] * 4)):
        with pytest.raises(InvalidArgument) as refused:
            signing_keys.selector(bad, DOMAIN)
        assert refused.value.metadata["field"] == "keys.selector"


def test_a_long_record_is_split_for_zone_files() -> None:
    text = signing_keys.record_text(Algorithm.RSA_2048, PAIRS[Algorithm.RSA_2048].public)
    strings = signing_keys.record_strings(text)
    assert "".join(strings) == text and len(strings) == 2 and max(map(len, strings)) == 255


def test_the_key_of_the_store_is_not_shown() -> None:
    assert "private" not in {field.name for field in dataclasses.fields(DomainKey)}
