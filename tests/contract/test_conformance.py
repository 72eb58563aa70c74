"""The conformance scenario is complete: every reason caused by clients has a step, and each step's needs are valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.contract import RPCS
from tests.conformance.judge import START_VARIABLES
from tests.conformance.outside import COMMANDS as OUTSIDE
from tests.conformance.scenario import Step, chosen, expected_reasons, load
from tests.contract.test_errors import DECLARED

STEPS = load()
BY_NAME = {step.name: step for step in STEPS}
RUNNER_COMMANDS = frozenset(
    "log_on resume session renew change_password log_off close rpc call pages execute execute_once upload read watch "
    "sync next stop".split()
)


def commands(step: Step) -> Iterator[dict[str, Any]]:
    """The commands of a step, including those inside `eventually` and `meanwhile`."""

    def within(command: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield command
        for inner in [*command.get("meanwhile", []), *([command["command"]] if "command" in command else [])]:
            yield from within(inner)

    for command in step.commands:
        yield from within(command)


def values(step: Step) -> Iterator[tuple[str, str]]:
    """(kind, name) of each variable, session and stream that a step uses or makes."""

    def within(value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            if "$bind" in value:
                yield "binds", value["$bind"]
            for item in value.values():
                yield from within(item)
        elif isinstance(value, list):
            for item in value:
                yield from within(item)
        elif isinstance(value, str):
            yield from (("uses", name) for name in re.findall(r"\$\{(\w+)", value))

    for command in commands(step):
        yield from within(command)
        if command["do"] in ("log_on", "resume"):
            yield "opens", command["session"]
        elif "session" in command:
            yield "speaks as", command["session"]
        if "session" in command.get("as", {}):
            yield "speaks as", command["as"]["session"]
        if command["do"] in ("watch", "sync"):
            yield "opens", f"stream {command['stream']}"
        elif "stream" in command:
            yield "speaks as", f"stream {command['stream']}"


@pytest.mark.parametrize("reason", [reason for reason, said in DECLARED.items() if said.caused_by_clients])
def test_a_reason_that_clients_cause_is_expected_by_a_step(reason: str) -> None:
    assert reason in expected_reasons(STEPS)


def test_no_step_expects_a_reason_that_there_is_not() -> None:
    assert expected_reasons(STEPS) - {""} <= DECLARED.keys()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_step_uses_only_what_its_needs_have_made(name: str) -> None:
    made = set(START_VARIABLES) | {"index"}
    for step in chosen(STEPS, [name]):
        made |= {thing for what, thing in values(step) if what in ("binds", "opens")}
    used = {thing for what, thing in values(BY_NAME[name]) if what in ("uses", "speaks as")}
    assert used <= made


@pytest.mark.parametrize("name", BY_NAME)
def test_a_step_has_only_commands_and_rpcs_that_there_are(name: str) -> None:
    for command in commands(BY_NAME[name]):
        assert command["do"] in RUNNER_COMMANDS | OUTSIDE | {"eventually"}
        assert command.get("method", "FolderService/GetFolder") in RPCS
        assert not {"expect", "error"} <= command.keys()


def test_every_command_of_a_runner_is_played() -> None:
    assert {command["do"] for step in STEPS for command in commands(step)} >= RUNNER_COMMANDS


def test_titles_differ() -> None:
    assert len({step.title for step in STEPS}) == len(STEPS)
