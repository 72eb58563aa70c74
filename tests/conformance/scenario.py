"""The scenario's files, read and checked."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.values import ScenarioError

SCENARIO = Path(__file__).parent / "scenario"

STEP_KEYS = {"step", "title", "needs", "commands", "why"}


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table."""

    name: str
    title: str
    needs: tuple[str, ...]
    commands: Sequence[dict[str, Any]]


def load(folder: Path = SCENARIO) -> list[Step]:
    """All steps in the order they are played. Raises ScenarioError."""
    steps: dict[str, Step] = {}
    for file in sorted(folder.glob("*.json")):
        for entry in json.loads(file.read_text(encoding="utf-8")):
            if unknown := entry.keys() - STEP_KEYS:
                raise ScenarioError(f"{file.name}: {entry.get('step')}: unknown {sorted(unknown)}")
            step = Step(entry["step"], entry["title"], tuple(entry.get("needs", ())), entry["commands"])
            if step.name in steps:
                raise ScenarioError(f"{file.name}: {step.name} is there twice")
            if missing := [name for name in step.needs if name not in steps]:
                raise ScenarioError(f"{file.name}: {step.name} needs {missing}, which do not come before it")
            steps[step.name] = step
    if not steps:
        raise ScenarioError(f"no steps in {folder}")
    return list(steps.values())


def chosen(steps: Sequence[Step], names: Collection[str]) -> list[Step]:
    """The steps of these names and the steps they need; all steps without a name. Raises ScenarioError."""
    if not names:
        return list(steps)
    by_name = {step.name: step for step in steps}
    if unknown := set(names) - by_name.keys():
        raise ScenarioError(f"there is no step {', '.join(sorted(unknown))}")
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += by_name[name].needs
    return [step for step in steps if step.name in wanted]


def expected_reasons(steps: Sequence[Step]) -> set[str]:
    """Every reason that some command of the steps expects, as an error, a verdict or a refusal."""

    def within(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "reason" and isinstance(item, str):
                    yield item
                yield from within(item)
        elif isinstance(value, list):
            for item in value:
                yield from within(item)

    found: set[str] = set()
    for step in steps:
        for command in step.commands:
            for expecting in (command, command.get("command", {})):  # the second inside `eventually`
                found.update(within(expecting.get("error")), within(expecting.get("expect")))
    return found
