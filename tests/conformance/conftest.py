"""The table of the scenario's results at the end of a test run."""

from __future__ import annotations

import pytest

from tests.conformance.judge import Outcome
from tests.conformance.scenario import load
from tests.conformance.table import table

OUTCOMES = pytest.StashKey[dict[str, dict[str, Outcome]]]()


@pytest.fixture
def played(pytestconfig: pytest.Config) -> dict[str, dict[str, Outcome]]:
    """The outcomes so far, by language and step; tests add to it."""
    return pytestconfig.stash.setdefault(OUTCOMES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of outcomes, language by step."""
    if results := config.stash.get(OUTCOMES, {}):
        terminalreporter.section("conformance")
        terminalreporter.write_line(table(results, load()))
