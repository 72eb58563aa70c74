"""DirectoryService: entries of the user's domain only."""

from __future__ import annotations

import pytest

from restante.errors import EntryNotFound, InvalidArgument, InvalidPageToken, PermissionDenied
from restante.v1 import directory_pb2 as v1
from restante.v1 import methods
from restante.v1.session_pb2 import Scope
from restante_server.db.operation import Write
from restante_server.directory import aliases, domains
from tests.server.api.people import Bench
from tests.server.directory.material import NOW, make_account


@pytest.fixture
async def book(bench: Bench) -> Bench:
    """A second domain, an alias, and names that are similar or hard to quote."""
    db = bench.core.db
    await db.write(Write(lambda tx: domains.create(tx, NOW, "example.org")))
    await make_account(db, "dave@example.org", display_name="Dave Alice")
    await make_account(db, "jorg@example.test", display_name="Jörg Müller")
    await make_account(db, "percent@example.test", display_name="100% Sure_Thing")
    await make_account(db, "alison@example.test", display_name="Alison Liddell")
    await db.write(Write(lambda tx: aliases.create(tx, NOW, "team@example.test", ["bob@example.test"])))
    return bench


async def resolve(bench: Bench, *names: str) -> list[tuple[int, list[str]]]:
    caller = await bench.caller(await bench.login("bob@example.test", "bob-demo"))
    answer = await bench.run(methods.RESOLVE_NAMES, v1.ResolveNamesRequest(names=names), caller)
    return [(one.state, [entry.address for entry in one.candidates]) for one in answer.resolutions]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bob", ["bob@example.test"]),
        ("BUILD", ["bob@example.test"]),
        ("jorg mull", ["jorg@example.test"]),
        ("MÜLLER", ["jorg@example.test"]),
        ("100%", ["percent@example.test"]),
        ("sure_", ["percent@example.test"]),
        ("team", ["team@example.test"]),
        ("alice@example.test", ["alice@example.test"]),
        ("ali", ["alice@example.test", "alison@example.test"]),
        ("liddell", ["alice@example.test", "alison@example.test"]),
        ("lid%", []),
        ("_lice", []),
        ("", []),
        ("dave", []),  # another domain
    ],
)
async def test_names_are_resolved_by_their_beginnings(book: Bench, name: str, found: list[str]) -> None:
    states = {0: v1.RESOLUTION_STATE_UNRESOLVED, 1: v1.RESOLUTION_STATE_RESOLVED, 2: v1.RESOLUTION_STATE_AMBIGUOUS}
    assert await resolve(book, name) == [(states[len(found)], found)]


async def test_one_that_is_exactly_it_is_resolved_among_several(book: Bench) -> None:
    await make_account(book.core.db, "alice2@example.test", display_name="Alice Liddell Junior")
    ((state, found),) = await resolve(book, "alice liddell")
    assert state == v1.RESOLUTION_STATE_RESOLVED
    assert found == ["alice@example.test", "alice2@example.test"]


async def test_entries_are_paged_by_name(book: Bench) -> None:
    caller = await book.caller(await book.login("bob@example.test", "bob-demo"))
    request, seen = v1.ListEntriesRequest(page_size=2), []
    while True:
        page = await book.run(methods.LIST_ENTRIES, request, caller)
        assert len(page.entries) <= 2
        seen += [entry.address.partition("@")[0] for entry in page.entries]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ["carol", "team", "percent", "alice", "alison", "bob", "jorg"]
    for junk in ("x", "!!!", "W10", request.page_token[:-4], "A" * 5_000):
        with pytest.raises(InvalidPageToken):
            await book.run(methods.LIST_ENTRIES, v1.ListEntriesRequest(page_token=junk), caller)


async def test_an_entry_is_got_by_address_in_ones_own_domain(book: Bench) -> None:
    caller = await book.caller(await book.login("bob@example.test", "bob-demo"))
    entry = (await book.run(methods.GET_ENTRY, v1.GetEntryRequest(address="Alice@Example.test"), caller)).entry
    assert (entry.kind, entry.display_name) == (v1.ENTRY_KIND_ACCOUNT, "Alice Liddell")
    for address in ("dave@example.org", "nobody@example.test", "no address"):
        with pytest.raises(EntryNotFound):
            await book.run(methods.GET_ENTRY, v1.GetEntryRequest(address=address), caller)


async def test_bounds_and_scope(book: Bench) -> None:
    caller = await book.caller(await book.login("bob@example.test", "bob-demo"))
    for request in (v1.ResolveNamesRequest(names=["x"] * 101), v1.ResolveNamesRequest(names=["x" * 1_001])):
        with pytest.raises(InvalidArgument):
            await book.run(methods.RESOLVE_NAMES, request, caller)
    less = await book.caller(await book.login("bob@example.test", "bob-demo", scope=Scope.SCOPE_IMAP))
    with pytest.raises(PermissionDenied):
        await book.run(methods.LIST_ENTRIES, v1.ListEntriesRequest(), less)
