"""The delivery of an address (docs/design.md "Lookup")."""

from __future__ import annotations

import pytest

from restante.errors import InvalidAddress
from restante_server.accounts import lifecycle
from restante_server.db.effects import DIRECTORY
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import accounts, aliases, domains, lookup
from restante_server.directory.lookup import AddressKind, Resolution
from tests.server.directory.material import NOW, make_account


async def alias(database: Database, address: str, *targets: str) -> None:
    await database.write(Write(lambda tx: aliases.create(tx, NOW, address, targets)))


async def where(database: Database, address: str) -> Resolution:
    return await database.read(lookup.resolve, address)


async def mailbox(database: Database, address: str) -> int:
    return (await database.read(accounts.get, address)).mailbox_id


@pytest.mark.parametrize(
    "spelling", ["alice@example.test", "ALICE@Example.Test", '"alice"@example.test', "alice+shop@example.test"]
)
async def test_an_account_is_found_by_every_spelling_and_with_detail(people: Database, spelling: str) -> None:
    found = await where(people, spelling)
    assert (found.kind, found.mailbox_id) == (AddressKind.LOCAL, await mailbox(people, "alice@example.test"))
    assert found.address == spelling


@pytest.mark.parametrize(
    "address",
    [
        "nobody@example.test",
        "alice%example.net@example.test",
        '"alice@example.net"@example.test',
        "+alice@example.test",
    ],
)
async def test_who_is_not_here_is_unknown(people: Database, address: str) -> None:  # RFC 5321 3.6.2
    assert (await where(people, address)).kind is AddressKind.UNKNOWN


@pytest.mark.parametrize("address", ["alice@example.net", "alice@sub.example.test", "alice@[127.0.0.1]"])
async def test_other_domains_are_foreign(people: Database, address: str) -> None:
    assert (await where(people, address)).kind is AddressKind.FOREIGN


async def test_what_is_no_address_is_an_error_alone_and_an_answer_among_many(people: Database) -> None:
    with pytest.raises(InvalidAddress):
        await where(people, "no address")
    several = await people.read(lookup.resolve_many, ["no address", "alice@example.test"])
    assert [one.kind for one in several] == [AddressKind.UNKNOWN, AddressKind.LOCAL]
    assert several[0].problem


async def test_an_alias_gives_all_its_targets_each_once(people: Database) -> None:
    await alias(people, "team@example.test", "alice@example.test", "friends@example.test", "dave@example.net")
    await alias(people, "friends@example.test", "bob@example.test", "Alice@example.test", "gone@example.test")
    found = await where(people, "Team+x@example.test")
    assert found.kind is AddressKind.ALIAS
    assert [(target.address, target.kind) for target in found.targets] == [
        ("alice@example.test", AddressKind.LOCAL),
        ("dave@example.net", AddressKind.FOREIGN),
        ("bob@example.test", AddressKind.LOCAL),
        ("gone@example.test", AddressKind.UNKNOWN),
    ]


async def test_an_alias_with_detail_wins_and_may_lead_to_the_one_without(people: Database) -> None:
    await alias(people, "team@example.test", "bob@example.test")
    await alias(people, "team+all@example.test", "team@example.test", "carol@example.test")
    found = await where(people, "team+all@example.test")
    assert {target.address for target in found.targets} == {"bob@example.test", "carol@example.test"}
    assert {target.kind for target in found.targets} == {AddressKind.LOCAL}


async def test_aliases_in_a_circle_end(people: Database) -> None:
    await alias(people, "a@example.test", "b@example.test")
    await alias(people, "b@example.test", "a@example.test")
    assert (await where(people, "a@example.test")).kind is AddressKind.UNKNOWN
    await alias(people, "c@example.test", "a@example.test", "c@example.test", "bob@example.test")
    found = await where(people, "c@example.test")
    assert [target.address for target in found.targets] == ["bob@example.test"]


async def test_aliases_have_a_depth_and_a_number_of_recipients(people: Database) -> None:
    for depth in range(12):
        await alias(people, f"d{depth}@example.test", f"d{depth + 1}@example.test")
    await alias(people, "d12@example.test", "alice@example.test")
    assert (await where(people, "d4@example.test")).targets[0].kind is AddressKind.LOCAL
    deep = (await where(people, "d0@example.test")).targets
    assert [target.kind for target in deep] == [AddressKind.UNKNOWN] and "deeper" in deep[0].problem
    for group in range(11):
        await alias(people, f"g{group}@example.test", *(f"u{group}-{n}@example.net" for n in range(100)))
    await alias(people, "all@example.test", *(f"g{group}@example.test" for group in range(11)))
    assert (await where(people, "all@example.test")).kind is AddressKind.UNKNOWN
    assert len((await where(people, "g0@example.test")).targets) == 100


async def test_a_catch_all_gets_what_nobody_else_does(people: Database) -> None:
    await people.write(Write(lambda tx: domains.set_catch_all(tx, "example.test", "carol@example.test")))
    assert (await where(people, "nobody@example.test")).mailbox_id == await mailbox(people, "carol@example.test")
    assert (await where(people, "bob+x@example.test")).mailbox_id == await mailbox(people, "bob@example.test")
    await alias(people, "dead@example.test", "nobody@example.test")
    assert (await where(people, "dead@example.test")).targets[0].kind is AddressKind.LOCAL
    await people.write(Write(lambda tx: lifecycle.remove(tx, "carol@example.test")))
    assert (await where(people, "nobody@example.test")).kind is AddressKind.UNKNOWN


async def test_postmaster_and_abuse_exist_in_every_domain(people: Database) -> None:  # RFC 5321 4.5.1
    await people.write(Write(lambda tx: domains.create(tx, NOW, "example.org")))
    alice = await mailbox(people, "alice@example.test")
    for address in ("postmaster@example.test", "ABUSE@example.test", "postmaster@example.org", "Postmaster"):
        assert (await where(people, address)).mailbox_id == alice  # the oldest account
    edit = accounts.Edit(administrator=True)
    await people.write(Write(lambda tx: lifecycle.change(tx, "bob@example.test", edit)))
    for address in ("postmaster@example.test", "postmaster@example.org", "postmaster"):
        assert (await where(people, address)).mailbox_id == await mailbox(people, "bob@example.test")
    dave = await make_account(people, "dave@example.org")
    assert (await where(people, "postmaster+x@example.org")).mailbox_id == dave.mailbox_id
    await alias(people, "postmaster@example.test", "carol@example.test")
    assert (await where(people, "postmaster")).targets[0].address == "carol@example.test"


async def test_many_are_resolved_in_order_as_each_alone(people: Database) -> None:
    await alias(people, "team@example.test", "alice@example.test", "bob@example.test")
    wanted = ["team@example.test", "x@example.net", *(f"u{n}@example.test" for n in range(600)), "bob@example.test"]
    many = await people.read(lookup.resolve_many, wanted)
    assert [one.address for one in many] == wanted
    for place in (0, 1, 2, 601, 602):
        assert many[place] == await where(people, wanted[place])


ALICE_EDITS = [(accounts.Edit(enabled=False), None), (accounts.Edit(administrator=True), None), (accounts.Edit(), 5)]


@pytest.mark.parametrize(("edit", "quota_octets"), ALICE_EDITS)
async def test_a_change_of_an_account_that_may_lead_mail_elsewhere_is_told(
    people: Database, edit: accounts.Edit, quota_octets: int | None
) -> None:
    """A cache of lookups must drop the entry: `postmaster` leads to an enabled account, administrators first."""
    told: list[str] = []
    people.listeners.on_invalidation(DIRECTORY, lambda: told.append(DIRECTORY))
    await people.write(Write(lambda tx: lifecycle.change(tx, "alice@example.test", edit, quota_octets)))
    assert told == [DIRECTORY]
