"""Filling in and matching of the scenario's values: each entry of README.md's two lists."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.values import MESSAGES, ScenarioError, Values, match


def octets(filled: str) -> bytes:
    return base64.b64decode(filled, validate=True)


@pytest.fixture
def values(tmp_path: Path) -> Values:
    return Values(tmp_path, {"name": "bob", "number": "41", "row": {"ids": ["7", "8"]}, "count": 3})


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("plain", "plain"),
        ("${name}", "bob"),
        ("to ${name}, ${count} times", "to bob, 3 times"),
        ("${row}", {"ids": ["7", "8"]}),
        ("${row.ids.1}", "8"),
        ("${count}", 3),
        ("${number+1}", "42"),
        ("${count-4}", -1),
        ("$name {name}", "$name {name}"),
        ({"a": ["${name}", {"b": "${number}"}], "why": "for readers"}, {"a": ["bob", {"b": "41"}]}),
        ({"$repeat": {"n": "${index}"}, "count": 3}, [{"n": 0}, {"n": 1}, {"n": 2}]),
        ({"$repeat": ["a${index}", "b"], "count": 2}, ["a0", "b", "a1", "b"]),
        ({"$join": [["a"], [], {"$repeat": "b", "count": 2}]}, ["a", "b", "b"]),
        ({"$nest": "negation", "depth": 2, "value": {"x": "${name}"}}, {"negation": {"negation": {"x": "bob"}}}),
        ({"$plain": ["${name}", "secret"]}, base64.b64encode(b"\0bob\0secret").decode()),
    ],
)
def test_a_value_is_filled_in(values: Values, value: Any, filled: Any) -> None:
    assert values.fill(value) == filled


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ({"$octets": "für ${name}\n"}, "für bob\n".encode()),
        ({"$octets": "a\nb\n", "crlf": True}, b"a\r\nb\r\n"),
        ({"$octets": "ab", "times": 3}, b"ababab"),
        ({"$octets": ["head ", {"$octets": "x", "times": 3}, {"$octets": ["y", "z"]}]}, b"head xxxyz"),
        ({"$message": "plain.eml"}, (MESSAGES / "plain.eml").read_bytes()),
    ],
)
def test_octets_are_filled_in(values: Values, value: Any, filled: bytes) -> None:
    assert octets(values.fill(value)) == filled
    assert Path(values.fill({"$file": value})).read_bytes() == filled


def test_random_octets_differ_and_a_request_id_stays(values: Values) -> None:
    assert len(octets(values.fill({"$random": 16}))) == 16
    assert values.fill({"$random": 16}) != values.fill({"$random": 16})
    first = values.fill({"$request_id": "one"})
    assert len(octets(first)) == 16
    assert values.fill({"$request_id": "one"}) == first != values.fill({"$request_id": "two"})


@pytest.mark.parametrize("value", ["${nobody}", "for ${nobody}", "${row.other}", "${row.ids.2}", "${name.x}"])
def test_what_nobody_bound_is_the_scenarios_mistake(values: Values, value: str) -> None:
    with pytest.raises(ScenarioError):
        values.fill(value)


FITS: list[tuple[Any, Any]] = [
    (1, 1),
    (7, "7"),
    ("a", "a"),
    (True, True),
    ({}, {"a": 1}),
    ({"a": 1}, {"a": 1, "b": 2}),
    ({"a": 1, "why": "for readers"}, {"a": 1}),
    ([1, {"a": 1}], [1, {"a": 1, "b": 2}]),
    ({"a": {"$any": True}}, {"a": None}),
    ({"a": {"$absent": True}}, {"b": 1}),
    ({"$length": 2}, ["a", "b"]),
    ({"$length": {"$ge": 2}}, "abc"),
    ({"$length": 3, "octets": True}, base64.b64encode(b"abc").decode()),
    ({"$gt": 9}, "10"),
    ({"$ge": "10"}, 10),
    ({"$lt": 2.5}, 2),
    ({"$le": 2}, "2"),
    ({"$ne": ""}, "a"),
    ({"$pattern": "^(A|B)$"}, "B"),
    ({"$contains": [{"a": 2}, {"a": 1}]}, [{"a": 1}, {"a": 3}, {"a": 2}]),
    ({"$excludes": {"a": 4}}, [{"a": 1}, {"a": 3}]),
    ({"$each": {"a": {"$gt": 0}}}, [{"a": 1}, {"a": 3}]),
    ({"$each": 1}, []),
    ({"$all": [{"$gt": 1}, {"$lt": 3}]}, 2),
]
FITS_NOT: list[tuple[Any, Any]] = [
    (1, 2),
    (7, "07"),
    ("7", 7),
    (1, True),
    (False, 0),
    ("a", "A"),
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, [1]),
    ([1], [1, 2]),
    ([1, 2], [2, 1]),
    ([], {}),
    ({"a": {"$any": True}}, {}),
    ({"a": {"$absent": True}}, {"a": None}),
    ({"a": {"$bind": "x"}}, {}),
    ({"$length": 2}, ["a"]),
    ({"$length": 2}, 2),
    ({"$gt": 9}, "9"),
    ({"$gt": 9}, "many"),
    ({"$ne": 7}, "7"),
    ({"a": {"$ne": 7}}, {}),
    ({"$pattern": "^A$"}, "B"),
    ({"$pattern": "A"}, 1),
    ({"$contains": [1, 1]}, [1, 2]),
    ({"$contains": [1]}, {"1": 1}),
    ({"$excludes": {"a": 1}}, [{"a": 1, "b": 2}]),
    ({"$each": {"a": 1}}, [{"a": 1}, {"a": 2}]),
    ({"$each": 1}, {"a": 1}),
    ({"$all": [{"$gt": 1}, {"$lt": 2}]}, 2),
]


@pytest.mark.parametrize(("expected", "actual"), FITS)
def test_it_fits(expected: Any, actual: Any) -> None:
    assert match(expected, actual).problems == []


@pytest.mark.parametrize(("expected", "actual"), FITS_NOT)
def test_it_does_not_fit(expected: Any, actual: Any) -> None:
    assert match(expected, actual).problems != []


def test_what_is_bound_comes_from_what_fits() -> None:
    found = match(
        {
            "rows": {"$contains": [{"name": "b", "id": {"$bind": "of_b"}}]},
            "token": {"$bind": "token", "as": {"$ne": ""}},
        },
        {"rows": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "token": "t"},
    )
    assert found.problems == []
    assert found.bound == {"of_b": 2, "token": "t"}


def test_a_problem_says_where() -> None:
    (problem,) = match({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "result").problems
    assert problem == "result.a[0].b is 2, not 1"
