"""Address lists, RFC 5322 3.4 and 4.4; by table and by property."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from restante_mail.header.address_field import address_field
from restante_mail.header.address_list import GroupEnd, GroupStart, ListItem, Mailbox, Tokens, parse_address_list
from restante_mail.header.addresses import Address, addresses, shown


def mailbox(name: str, local: str, domain: str = "example.test", route: str = "") -> Mailbox:
    return Mailbox(name, route, local, domain)


ALICE = mailbox("", "alice")
TABLE: list[tuple[str, list[ListItem]]] = [
    ("", []),
    (" ", []),
    (",, ,", []),
    ("(nobody at all)", []),
    ("alice@example.test", [ALICE]),
    ("<alice@example.test>", [ALICE]),
    ("Alice <alice@example.test>", [mailbox("Alice", "alice")]),
    ('"Example, Alice" <alice@example.test>', [mailbox("Example, Alice", "alice")]),
    ("Alice Q. Example <alice@example.test>", [mailbox("Alice Q. Example", "alice")]),
    ("alice@example.test, bob@example.test", [ALICE, mailbox("", "bob")]),
    ("alice@example.test,,bob@example.test,", [ALICE, mailbox("", "bob")]),
    (r'"A \"q\" \\ B" <alice@example.test>', [mailbox(r'A "q" \ B', "alice")]),
    ("alice@example.test (Alice E.)", [mailbox("Alice E.", "alice")]),
    ("alice (x(y\\)z)) @ example . test", [mailbox("x(y)z)", "alice")]),  # RFC 5322 4.4
    ("Alice (the first) <alice@example.test>", [mailbox("Alice", "alice")]),
    ('"a b"@example.test', [mailbox("", "a b")]),
    ('"a\\"b" @ example.test', [mailbox("", 'a"b')]),
    ("<@a.test,@b.test:alice@example.test>", [mailbox("", "alice", route="@a.test,@b.test")]),  # RFC 5322 4.4
    ("<@a.test:alice@example.test>", [mailbox("", "alice", route="@a.test")]),
    ("alice@[192.0.2.1]", [mailbox("", "alice", "[192.0.2.1]")]),
    ("alice@[IPv6:2001:db8::1]", [mailbox("", "alice", "[IPv6:2001:db8::1]")]),
    ("undisclosed-recipients:;", [GroupStart("undisclosed-recipients"), GroupEnd()]),  # RFC 5322 3.4
    ("A Group: alice@example.test, Bob <bob@example.test>;", [
        GroupStart("A Group"), ALICE, mailbox("Bob", "bob"), GroupEnd(),
    ]),
    ("x:;, alice@example.test", [GroupStart("x"), GroupEnd(), ALICE]),
    ("x: alice@example.test", [GroupStart("x"), ALICE, GroupEnd()]),  # never closed
    ("alice@example.test; bob@example.test", [ALICE, mailbox("", "bob")]),  # a common mistake
    ("alice", [mailbox("", "alice", "")]),
    ("Alice <alice>", [mailbox("Alice", "alice", "")]),
    ("Alice <>", [mailbox("Alice", "", "")]),
    ("<>", []),
    ("Alice <alice@example.test", [mailbox("Alice", "alice")]),
    ("alice@example.test> , bob@example.test", [ALICE, mailbox("", "bob")]),
    ("bob@example.org <alice@example.test>", [mailbox("bob@example.org", "alice")]),
    ("a@b@example.test", [mailbox("", "a@b")]),
    ('"unclosed <alice@example.test>', [mailbox("", "unclosed <alice@example.test>", "")]),
    ("J\xc3\xb6rg <alice@example.test>", [mailbox("J\xc3\xb6rg", "alice")]),
    ("=?utf-8?q?J=C3=B6rg?= <alice@example.test>", [mailbox("=?utf-8?q?J=C3=B6rg?=", "alice")]),
    ("a.b.@example.test", [mailbox("", "a.b.")]),
    (". . . <alice@example.test>", [mailbox(". . .", "alice")]),
    # A comma is missing.
    ("Al <alice@example.test> <bob@example.test>", [mailbox("Al", "alice"), mailbox("", "bob")]),
    ("Al <alice@example.test> Bob B. <bob@example.test>", [mailbox("Al", "alice"), mailbox("Bob B.", "bob")]),
    ("alice@example.test bob@example.test", [ALICE, mailbox("", "bob")]),
    ("alice@example.test Bob <bob@example.test>", [ALICE, mailbox("Bob", "bob")]),
    ("Al <alice@example.test> bob@example.test x", [mailbox("Al", "alice"), mailbox("x", "bob")]),
    ("g: alice@example.test bob@example.test;", [GroupStart("g"), ALICE, mailbox("", "bob"), GroupEnd()]),
    ("alice@example.test g: bob@example.test;", [ALICE, GroupStart("g"), mailbox("", "bob"), GroupEnd()]),
    ("<alice@example.test bob@example.test>", [ALICE]),
    # Angle brackets are missing.
    ("Alice E alice@example.test", [mailbox("Alice E", "alice")]),
    ('"Example, A." alice@example.test', [mailbox("Example, A.", "alice")]),
    ("A. alice@example.test", [mailbox("A.", "alice")]),
    ("alice@example.test Alice E", [mailbox("Alice E", "alice")]),
    ("a . lice @ example.test", [mailbox("", "a.lice")]),  # RFC 5322 4.4
    ("<a lice@example.test>", [mailbox("", "a lice")]),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "items"), TABLE, ids=[raw or "empty" for raw, _ in TABLE])
def test_address_lists_are_read(raw: str, items: list[ListItem]) -> None:
    assert parse_address_list(raw) == items


def test_the_long_way_reads_what_the_short_way_reads() -> None:
    """A comment, which has no meaning, forces the full parser."""
    for raw, items in TABLE:
        if raw and "(" not in raw and not raw.startswith('"unclosed'):
            assert parse_address_list("(c)" + raw) == [
                item._replace(name="c") if isinstance(item, Mailbox) and at == 0 and not item.name else item
                for at, item in enumerate(items)
            ], raw


def test_facts_are_decoded_and_quoted_where_they_must_be() -> None:
    raw = '=?utf-8?q?J=C3=B6rg?= <a@example.test>, "b c"@example.test, grp: d@example.test;, J\xf6rg <e>, <@x:f@y>'
    assert addresses(parse_address_list(raw)) == (
        Address("Jörg", "a@example.test"),
        Address("", '"b c"@example.test'),
        Address("", "d@example.test", "grp"),
        Address("Jörg", "e"),
        Address("", "f@y"),
    )


def test_groups_keep_their_names_for_people() -> None:
    raw = "=?utf-8?q?J=C3=B6rgs?=: Al <a@x>, b@y;, Nobody:;, c@z"
    found = addresses(parse_address_list(raw))
    assert found == (
        Address("Al", "a@x", "Jörgs"),
        Address("", "b@y", "Jörgs"),
        Address("", "", "Nobody"),
        Address("", "c@z"),
    )
    assert shown(found) == "Jörgs: Al <a@x>, b@y;, Nobody: ;, c@z"
    assert shown(found[2:3]) == "Nobody: ;"


SPELLINGS = ["{}", "<{}>", "Al <{}>", '"E., Al" <{}>', "Al E. <{}>", "Al {}", "{} (c)", "< {} >"]


@given(
    st.lists(
        st.tuples(st.sampled_from(SPELLINGS), st.sampled_from(["a@x", "b.c@y.z", "d@[192.0.2.1]"])),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([" ", ", ", ";", "\r\n "]),
)
def test_there_is_never_an_address_that_nobody_wrote(written: list[tuple[str, str]], separator: str) -> None:
    for (before, _), (after, _) in itertools.pairwise(written):  # a@x <a@x>: the first is the name of the second
        assume(separator.strip() or ">" in before or not after.startswith("<"))
    raw = separator.join(spelling.format(address) for spelling, address in written)
    assert [address for _name, address, _group in addresses(parse_address_list(raw))] == [one for _, one in written]


def test_a_list_is_read_to_its_limit_only() -> None:
    assert len(parse_address_list("a@b," * 50, limit=7)) == 7
    assert len(parse_address_list("(c) a@b," * 50, limit=7)) == 7


def test_what_is_read_token_by_token_ends_with_the_tokens() -> None:
    tokens = Tokens(100)
    assert 0 < len(parse_address_list("(c) a@b," * 50, tokens=tokens)) < 50
    assert tokens.left == 0
    assert parse_address_list("(c) a@b", tokens=tokens) == []
    assert parse_address_list("a@b", tokens=tokens) == [Mailbox("", "", "a", "b")]


@pytest.mark.parametrize("count", range(1, 16))
def test_a_list_that_ends_with_the_tokens_has_nothing_by_halves(count: int) -> None:
    raw = "x: (c) a@b.example, c@d.example;"
    whole = [GroupStart("x"), mailbox("c", "a", "b.example"), mailbox("", "c", "d.example"), GroupEnd()]
    read = parse_address_list(raw, tokens=Tokens(count))
    assert read == ([*whole[: len(read) - 1], GroupEnd()] if read else [])


def test_empty_places_and_octets_that_stand_nowhere_are_passed_over_at_once() -> None:
    tokens = Tokens(20)
    empty = ", ,;" * 10_000
    raw = f"a@b{empty}x: c@d{',, ' * 10_000};{empty}{chr(92) * 10_000}"
    *found, odd = parse_address_list(raw, tokens=tokens)
    assert found == [Mailbox("", "", "a", "b"), GroupStart("x"), Mailbox("", "", "c", "d"), GroupEnd()]
    assert odd == Mailbox("", "", chr(92) * 10_000, "")
    assert tokens.left > 0


@given(st.text(alphabet='a@b.c <>()[]",;:\\\t\xe9\r\n=?', max_size=80))
def test_nothing_raises_and_groups_are_closed(raw: str) -> None:
    opened = 0
    for item in parse_address_list(raw):
        opened += isinstance(item, GroupStart)
        opened -= isinstance(item, GroupEnd)
        assert 0 <= opened <= 1
    assert opened == 0
    addresses(parse_address_list(raw))


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "a@b,",
        "(c)a@b,",
        "<",
        "@",
        '"',
        '\\"',
        "x:",
        "x:a;",
        "[",
        "a ",
        "<a@b",
        "<@a,",
        ",",
        "a@b ",
        "a@b c ",
        "<a@b c@d> ",
        "a.",
        ")",
        "a@",
        "\\",
        "(\\",
    ],
)
def test_time_grows_with_the_length_not_its_square(unit: str) -> None:
    def seconds(count: int) -> float:
        raw = unit * count
        start = time.process_time()
        parse_address_list(raw)
        return time.process_time() - start

    whole = 200_000 // len(unit)
    assert seconds(whole) < max(0.1, seconds(whole // 8) * 8) * 6


def test_the_kept_form_of_a_field_respects_the_limits_of_its_content() -> None:
    plain, unusual = "a@b, c@d", "x (y) <a@b>, c@d"
    for raw in (plain, unusual):
        whole = address_field(raw, 10, Tokens(100))
        assert (whole.items, len(whole.addresses)) == (2, 2)
        assert address_field(raw, 1, Tokens(100)).addresses == whole.addresses[:1]
    assert address_field(plain, 10, Tokens(0)).items == 2
    assert address_field(unusual, 10, Tokens(0)).items == 0
    spent = Tokens(100)
    address_field(unusual, 10, spent)
    assert spent.left < 100
