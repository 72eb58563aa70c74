"""Every SDK plays the whole scenario (README.md). `python -m tests.conformance` prints the same as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.judge import Outcome, play
from tests.conformance.languages import Language, languages
from tests.conformance.scenario import load
from tests.harness.requirements import missing

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end, pytest.mark.builds]


@pytest.mark.parametrize("language", languages(), ids=lambda language: language.key)
def test_an_sdk_passes_every_step(language: Language, tmp_path: Path, played: dict[str, dict[str, Outcome]]) -> None:
    if reason := language.missing():
        missing(f"{language.name}: {reason}")
    language.made()
    outcomes = played[language.name] = {}
    for outcome in play(language, load(), tmp_path / language.key, lambda _: None):
        outcomes[outcome.step] = outcome
    assert {step: outcome.detail for step, outcome in outcomes.items() if outcome.outcome != "passed"} == {}
