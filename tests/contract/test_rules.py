"""tests/rfc/rules.txt: each rule names RFCs of the index and tests that exist."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contract.test_references import ENTRIES

TESTS = Path(__file__).parents[1]
NUMBERS = {str(entry.number) for entry in ENTRIES}


class Rule(NamedTuple):
    """One line of the list."""

    sections: str
    text: str
    tests: tuple[str, ...]


def rules(text: str) -> list[Rule]:
    """The list, parsed. Raises ValueError for a line of another form."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            sections, rule, tests = (word.strip() for word in line.split("|"))
            found.append(Rule(sections, rule, tuple(tests.split())))
    return found


@cache
def functions(path: Path) -> frozenset[str]:
    """The names of the tests in a file."""
    tree = ast.parse(path.read_text())
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(test: str) -> bool:
    """Whether a test does not exist."""
    file, _, function = test.partition("::")
    path = TESTS / file
    if not path.is_file():
        return True
    return function not in functions(path) if path.suffix == ".py" else bool(function)


RULES = rules((TESTS / "rfc" / "rules.txt").read_text())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.sections)
def test_a_rule_has_tests_and_rfcs_of_the_index(rule: Rule) -> None:
    assert rule.text and rule.tests
    assert not [test for test in rule.tests if missing(test)]
    numbers = [word for word in rule.sections.replace(",", " ").split() if word.isdigit() and len(word) > 2]
    assert numbers and set(numbers) <= NUMBERS


def test_the_check_can_fail() -> None:
    assert missing("contract/nobody.py::test_x") and missing("contract/test_rules.py::test_nobody")
    assert missing("transcripts/smtp/nobody.txt") and not missing("transcripts/smtp/dots.txt")
    assert not missing("contract/test_rules.py::test_the_check_can_fail")
    with pytest.raises(ValueError, match="unpack"):
        rules("1 | two\n")
