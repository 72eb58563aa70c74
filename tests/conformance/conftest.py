"""The table of the scenario at the end of a run that played it."""

from __future__ import annotations

import pytest

from tests.conformance.judge import Outcome
from tests.conformance.scenario import load
from tests.conformance.table import table

OUTCOMES = pytest.StashKey[dict[str, dict[str, Outcome]]]()


@pytest.fixture
def played(pytestconfig: pytest.Config) -> dict[str, dict[str, Outcome]]:
    """What has come of the scenario so far, by language and step; to be added to."""
    return pytestconfig.stash.setdefault(OUTCOMES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Language by step."""
    if results := config.stash.get(OUTCOMES, {}):
        terminalreporter.section("conformance")
        terminalreporter.write_line(table(results, load()))
