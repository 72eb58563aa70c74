"""The judge with runners that answer well, badly, or not at all; and its wire, held and cut."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from restante.v1.folder_pb2 import Folder, GetFolderResponse
from tests.conformance.judge import Judge
from tests.conformance.languages import Language, Runner, RunnerFailed, languages
from tests.conformance.outside import Outside
from tests.conformance.scenario import Step, chosen, load
from tests.conformance.values import ScenarioError, Values
from tests.conformance.wires import Wires, wires

GET_FOLDER = {"do": "rpc", "method": "FolderService/GetFolder", "request": {"folderId": 7}}


class Answers:
    """A runner with answers set by a test."""

    def __init__(self, *answers: dict[str, Any], encoding: str = "json") -> None:
        self.encoding, self._answers = encoding, list(answers)
        self.commands: list[dict[str, Any]] = []

    def do(self, command: dict[str, Any], seconds: float) -> dict[str, Any]:
        self.commands.append(command)
        return self._answers.pop(0)


class World:
    """The judge's commands, recorded."""

    def __init__(self) -> None:
        self.done: list[Mapping[str, Any]] = []
        self.commands = {"cut": self.done.append}


def played(tmp_path: Path, runner: Answers, *commands: dict[str, Any], world: World | None = None) -> tuple[str, str]:
    judge = Judge(
        cast(Runner, runner), cast(Outside, world or World()), Values(tmp_path, {"seven": "7"}), lambda _: None
    )
    outcome = judge.play(Step("step", "a step", (), commands))
    return outcome.outcome, outcome.detail


def folder(**fields: Any) -> dict[str, Any]:
    return {"result": {"response": {"folder": fields}}}


@pytest.mark.parametrize(
    "answer",
    [
        folder(folderId="7", displayName="Desk"),
        folder(folder_id=7, display_name="Desk", messageCount=0, role="FOLDER_ROLE_UNSPECIFIED"),
        folder(folderId=7, displayName="Desk", role=0, parentFolderId="0"),
    ],
)
def test_every_way_to_write_proto_json_is_the_same(tmp_path: Path, answer: dict[str, Any]) -> None:
    whole = {"folderId": 7, "displayName": "Desk", "role": "FOLDER_ROLE_UNSPECIFIED", "path": [], "messageCount": 0}
    command = {**GET_FOLDER, "expect": {"response": {"folder": whole}}}
    assert played(tmp_path, Answers(answer), command) == ("passed", "")


def test_a_runner_may_speak_in_serialised_messages(tmp_path: Path) -> None:
    octets = GetFolderResponse(folder=Folder(folder_id=7, display_name="Desk")).SerializeToString()
    runner = Answers({"result": {"response": base64.b64encode(octets).decode()}}, encoding="protobuf")
    command = {**GET_FOLDER, "expect": {"response": {"folder": {"displayName": "Desk"}}}}
    assert played(tmp_path, runner, command) == ("passed", "")
    assert base64.b64decode(runner.commands[0]["request"]) == b"\x10\x07"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (folder(folderId="8"), 'folderId is "8", not "7"'),
        ({"result": {"response": {}}}, "folder is absent"),
        ({"result": {}}, "no GetFolderResponse"),
        ({"result": {"response": {"directory": {}}}}, "no GetFolderResponse"),
        ({"error": {"code": "NOT_FOUND", "reason": "FOLDER_NOT_FOUND"}}, "no result but"),
    ],
)
def test_what_is_not_as_expected_fails(tmp_path: Path, answer: dict[str, Any], problem: str) -> None:
    command = {**GET_FOLDER, "expect": {"response": {"folder": {"folderId": "${seven}"}}}}
    outcome, detail = played(tmp_path, Answers(answer), command)
    assert outcome == "failed"
    assert problem in detail


def test_an_error_that_is_expected_must_come_and_be_that_one(tmp_path: Path) -> None:
    command = {**GET_FOLDER, "error": {"reason": "FOLDER_NOT_FOUND", "metadata": {"folder_id": "7"}}}
    right = {"error": {"code": "NOT_FOUND", "reason": "FOLDER_NOT_FOUND", "metadata": {"folder_id": "7"}}}
    assert played(tmp_path, Answers(right), command) == ("passed", "")
    for wrong in (folder(folderId="7"), {"error": {"reason": "INTERNAL"}}, {"error": {"reason": "FOLDER_NOT_FOUND"}}):
        assert played(tmp_path, Answers(wrong), command)[0] == "failed"


def test_a_step_ends_at_its_first_problem_and_says_which_command(tmp_path: Path) -> None:
    runner = Answers(folder(folderId="7"), {"unsupported": "no stubs"})
    assert played(tmp_path, runner, GET_FOLDER, GET_FOLDER, GET_FOLDER) == ("unsupported", "rpc: no stubs")
    outcome, detail = played(tmp_path, Answers(folder()), {**GET_FOLDER, "request": {"folder": 7}})
    assert outcome == "failed"
    assert "command 1, rpc FolderService/GetFolder: GetFolderRequest: " in detail


def test_what_one_command_binds_the_next_may_use(tmp_path: Path) -> None:
    runner = Answers(folder(folderId="7", parentFolderId="9"), folder())
    binding = {**GET_FOLDER, "expect": {"response": {"folder": {"parentFolderId": {"$bind": "parent"}}}}}
    assert played(tmp_path, runner, binding, {**GET_FOLDER, "request": {"folderId": "${parent+1}"}})[0] == "passed"
    assert runner.commands[1]["request"] == {"folderId": "10"}


def test_eventually_asks_again_and_meanwhile_is_done(tmp_path: Path) -> None:
    runner, world = Answers(folder(), folder(), folder(displayName="Desk")), World()
    command = {**GET_FOLDER, "expect": {"response": {"folder": {"displayName": "Desk"}}}, "meanwhile": [{"do": "cut"}]}
    played_twice = played(tmp_path, runner, {"do": "eventually", "seconds": 5, "command": command}, world=world)
    assert played_twice == ("passed", "")
    assert len(world.done) == 3
    never = played(tmp_path, Answers(folder()), {"do": "eventually", "seconds": 0, "command": command})
    assert never[0] == "failed"


# --- The runner's process -------------------------------------------------------------------------------------------


def language(tmp_path: Path, program: str) -> Language:
    (tmp_path / "runner.py").write_text(program)
    return Language("test", "Test", tmp_path, (), [], ["{python}", "runner.py"], ())


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("print('hello')", "not JSON"),
        ("print('{}')", "did not answer `hello`"),
        ("raise SystemExit('no such server')", "no such server"),
        ("print('{\"ready\": {}}', flush=True); input(); raise SystemExit(3)", "status 3"),
        ('print(\'{"ready": {}}\', flush=True); input(); input(); print(\'{"id": 7, "result": {}}\')', "not an answer"),
        ("print('{\"ready\": {}}', flush=True); input(); input(); raise SystemExit('lost')", "lost"),
    ],
)
def test_a_runner_that_breaks_the_rules_is_told_so(tmp_path: Path, program: str, problem: str) -> None:
    def use() -> None:
        with language(tmp_path, program).running({"target": "x"}, tmp_path / "log") as runner:
            if "input(); input()" in program:
                runner.do({"do": "session", "session": "alice"}, 10.0)

    with pytest.raises(RunnerFailed, match=problem):
        use()


def test_what_is_missing_on_the_machine_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "clients/fortran"
    folder.mkdir(parents=True)
    entry = {"language": "Fortran", "needs": [Path(sys.executable).name, "no-such-compiler"], "run": ["x"]}
    (folder / "conformance.json").write_text(json.dumps({**entry, "path": [str(Path(sys.executable).parent)]}))
    (found,) = languages(tmp_path / "clients")
    assert found.missing() == "no-such-compiler is not installed"


def test_a_build_that_fails_says_what_the_builder_said(tmp_path: Path) -> None:
    broken = Language("test", "Test", tmp_path, (), [["{python}", "-c", "raise SystemExit('no type T')"]], [], ())
    with pytest.raises(RunnerFailed, match="no type T"):
        broken.made()


# --- The scenario's files -------------------------------------------------------------------------------------------


def test_steps_come_with_what_they_need(tmp_path: Path) -> None:
    steps = [{"step": name, "title": name, "needs": needs, "commands": []} for name, needs in (("a", []), ("b", ["a"]))]
    (tmp_path / "1.json").write_text(json.dumps(steps))
    (tmp_path / "2.json").write_text(json.dumps([{"step": "c", "title": "c", "needs": ["b"], "commands": []}]))
    assert [step.name for step in chosen(load(tmp_path), ["c"])] == ["a", "b", "c"]
    assert [step.name for step in chosen(load(tmp_path), ["a"])] == ["a"]
    with pytest.raises(ScenarioError, match="no step d"):
        chosen(load(tmp_path), ["d"])


@pytest.mark.parametrize("second", ["a", "needs-later"])
def test_a_step_that_is_there_twice_or_needs_a_later_one_is_a_mistake(tmp_path: Path, second: str) -> None:
    steps = [{"step": name, "title": "", "needs": [], "commands": []} for name in ("a", second)]
    steps[1]["needs"] = ["later"] if second == "needs-later" else []
    (tmp_path / "1.json").write_text(json.dumps(steps))
    with pytest.raises(ScenarioError):
        load(tmp_path)


# --- The wire -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[Wires]:
    with wires() as made:
        yield made


async def test_a_line_relays_is_held_and_is_cut(lines: Wires) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(1000):
            writer.write(octets)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    line = lines.to_port(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    writer.write(b"through")
    assert await reader.readexactly(7) == b"through"
    await asyncio.to_thread(lines.run, line.hold(4))
    writer.write(b"four")
    assert await reader.readexactly(4) == b"four"
    writer.write(b"held")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.3)
    await asyncio.to_thread(lines.run, line.cut())
    try:
        ended = await reader.read(1) == b""
    except ConnectionError:
        ended = True
    assert ended
    again, more = await asyncio.open_connection("127.0.0.1", line.port)
    more.write(b"new ones work")
    assert await again.readexactly(13) == b"new ones work"
    for each in (writer, more):
        each.close()
    server.close()
