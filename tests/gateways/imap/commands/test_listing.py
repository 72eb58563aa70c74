"""The names in answers to LIST and LSUB (RFC 3501 6.3.8, 6.3.9; RFC 5258; RFC 6154)."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.commands.listing import Listed, covers, list_folders, list_subscriptions
from restante_gateways.imap.values import Folder, Place, Role, full_name

NOTHING: frozenset[bytes] = frozenset()


def folders(*names: str) -> list[Folder]:
    roles = {"INBOX": Role.INBOX, "Sent": Role.SENT}
    return [
        Folder(Place(1, number), tuple(name.split("/")), roles.get(name)) for number, name in enumerate(names, start=1)
    ]


def listed(
    pattern: str, *names: str, subscribed: tuple[str, ...] = (), select: bytes = b"", returns: bytes = b""
) -> list[Listed]:
    return list_folders(
        folders(*names), frozenset(subscribed), [pattern], frozenset(select.split()), frozenset(returns.split())
    )


def names(found: list[Listed]) -> list[str]:
    return [entry.name for entry in found]


def test_percent_stops_at_the_separator_and_star_does_not() -> None:  # RFC 3501 6.3.8
    tree = ("INBOX", "a", "a/b", "a/b/c", "Sent")
    assert names(listed("%", *tree)) == ["INBOX", "Sent", "a"]
    assert names(listed("*", *tree)) == ["INBOX", "Sent", "a", "a/b", "a/b/c"]
    assert names(listed("a/%", *tree)) == ["a/b"]
    assert names(listed("a*c", *tree)) == ["a/b/c"]
    assert names(listed("missing", *tree)) == []


def test_the_inbox_is_told_as_inbox() -> None:  # RFC 3501 5.1
    assert (
        full_name(["Inbox"]) == "INBOX"
        and full_name(["inbox", "x"]) == "INBOX/x"
        and full_name(["Inboxes"]) == "Inboxes"
    )


def test_children_and_special_use_are_attributes() -> None:
    found = {entry.name: entry.attributes for entry in listed("*", "INBOX", "a", "a/b", "Sent")}
    assert found == {
        "INBOX": (b"\\HasNoChildren",),
        "Sent": (b"\\HasNoChildren", b"\\Sent"),
        "a": (b"\\HasChildren",),
        "a/b": (b"\\HasNoChildren",),
    }
    assert names(listed("*", "INBOX", "a", "Sent", select=b"SPECIAL-USE")) == ["Sent"]


def test_subscribed_names_that_are_gone_are_told_as_such() -> None:  # RFC 5258 3
    found = listed("*", "a", "b", subscribed=("a", "gone"), select=b"SUBSCRIBED")
    assert [(entry.name, entry.attributes) for entry in found] == [
        ("a", (b"\\HasNoChildren", b"\\Subscribed")),
        ("gone", (b"\\NonExistent", b"\\HasNoChildren", b"\\Subscribed")),
    ]


def test_recursive_match_tells_of_subscribed_children() -> None:  # RFC 5258 3.5
    found = listed("%", "a", "a/b", "c", subscribed=("a/b", "x/y"), select=b"SUBSCRIBED RECURSIVEMATCH")
    assert [(entry.name, entry.child_info) for entry in found] == [("a", (b"SUBSCRIBED",)), ("x", (b"SUBSCRIBED",))]
    assert b"\\NonExistent" in found[1].attributes


def test_recursive_match_tells_of_no_child_that_a_pattern_lists() -> None:  # RFC 5258 5, example 9
    tree = ("foo2", "foo2/bar1", "foo2/bar2", "baz2", "baz2/bar2", "baz2/bar22", "baz2/bar222", "eps2", "eps2/mamba")
    subscribed = (*(name for name in tree if "/" in name), "eps2", "qux2/bar2")
    with_child_info = {
        entry.name: bool(entry.child_info)
        for entry in listed("*2", *tree, subscribed=subscribed, select=b"RECURSIVEMATCH SUBSCRIBED")
    }
    assert with_child_info == {
        "foo2": True,  # foo2/bar1 is not listed
        "foo2/bar2": False,
        "baz2/bar2": False,  # all below baz2 is listed, and baz2 is not subscribed
        "baz2/bar22": False,
        "baz2/bar222": False,
        "eps2": True,
        "qux2/bar2": False,
    }
    everything = listed("*", *tree, subscribed=subscribed, select=b"RECURSIVEMATCH SUBSCRIBED")
    assert {entry.name for entry in everything} == set(subscribed)
    assert not any(entry.child_info for entry in everything)


def test_recursive_match_tells_of_children_by_each_criterion() -> None:  # RFC 6154 3
    both = folders("a", "a/b", "c", "c/d")
    both[1] = dataclasses.replace(both[1], role=Role.SENT)
    wanted = frozenset((b"SPECIAL-USE", b"SUBSCRIBED", b"RECURSIVEMATCH"))
    found = list_folders(both, frozenset(("a/b", "c/d")), ["%"], wanted, NOTHING)
    assert [(entry.name, entry.child_info) for entry in found] == [("a", (b"SPECIAL-USE", b"SUBSCRIBED"))]


def test_returning_subscriptions_selects_nothing() -> None:
    found = listed("*", "a", "b", subscribed=("a",), returns=b"SUBSCRIBED")
    assert [b"\\Subscribed" in entry.attributes for entry in found] == [True, False]


def test_lsub_names_what_is_gone_and_parents_for_percent() -> None:  # RFC 3501 6.3.9
    found = list_subscriptions(["a/b", "gone", "c"], "%")
    assert [(entry.name, entry.attributes) for entry in found] == [("a", (b"\\Noselect",)), ("c", ()), ("gone", ())]
    assert names(list_subscriptions(["a/b", "gone"], "*")) == ["a/b", "gone"]


@given(st.text(alphabet="ab/*%", max_size=8), st.text(alphabet="ab/", max_size=8))
def test_patterns_match_as_their_regular_expression(pattern: str, name: str) -> None:
    spelled = "".join({"*": ".*", "%": "[^/]*"}.get(char, re.escape(char)) for char in pattern)
    assert covers(pattern, name) == (re.fullmatch(spelled, name) is not None)


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab", max_size=8))
def test_star_is_that_of_the_shell(pattern: str, name: str) -> None:
    assert covers(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize("wildcard", ["*", "%"])
def test_hostile_patterns_cost_no_more_than_their_length(wildcard: str) -> None:
    began = time.perf_counter()
    assert not covers(f"{wildcard}a" * 100 + "b", "a" * 200)
    assert time.perf_counter() - began < 2.0
