"""The judge: it plays the scenario with one runner and yields the outcome of each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restante_cli.connect import core_socket
from restante_process.config_file import load
from tests.conformance.contract import BadAnswer, canonical, message_type, rpc, written
from tests.conformance.languages import Language, Runner, RunnerFailed
from tests.conformance.outside import Outside
from tests.conformance.scenario import Step
from tests.conformance.values import ScenarioError, Values, match
from tests.conformance.wires import wires
from tests.harness.demo import DOMAIN, Demo, running_demo

DEFAULT_MILLISECONDS = 30_000
GRACE_SECONDS = 30.0  # for a runner's answer, in addition to the command's time
PEOPLE = ("alice", "bob", "carol")
IDENTITIES = ("smtp", "imap", "pop3", "relay")
SETTINGS = {"RESTANTE_LIMITS__MAX_MESSAGE_OCTETS": str(2 << 20)}
"""Settings of the demo: a message that is too large should not take long to send."""

NOT_SENT = {"expect", "error", "meanwhile", "why"}
SESSION_COMMANDS = ("log_on", "resume", "session", "renew", "change_password")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a step."""

    step: str
    outcome: str  # passed, failed or unsupported
    detail: str = ""
    seconds: float = 0.0


class Unsupported(Exception):
    """The SDK has no such feature."""


class NotAsExpected(Exception):
    """The expected result did not arrive."""


class Judge:
    """One run of one language."""

    def __init__(self, runner: Runner, outside: Outside, values: Values, tell: Tell) -> None:
        self._runner, self._outside, self._values, self._tell = runner, outside, values, tell
        self._streams: dict[str, str] = {}  # {stream's name: its kind}

    def play(self, step: Step) -> Outcome:
        """Run the commands of a step until one fails. Raises RunnerFailed, ScenarioError."""
        began = time.monotonic()
        for number, command in enumerate(step.commands, 1):
            try:
                self._do(command)
            except Unsupported as problem:
                return Outcome(step.name, "unsupported", f"{command['do']}: {problem}", time.monotonic() - began)
            except (NotAsExpected, BadAnswer, ScenarioError) as problem:
                what = " ".join(filter(None, [command["do"], command.get("method", "")]))
                return Outcome(step.name, "failed", f"command {number}, {what}: {problem}", time.monotonic() - began)
        return Outcome(step.name, "passed", "", time.monotonic() - began)

    def _do(self, command: Mapping[str, Any]) -> None:
        if command["do"] == "eventually":
            until = time.monotonic() + command["seconds"]
            while True:
                try:
                    return self._do(command["command"])
                except NotAsExpected:
                    if time.monotonic() >= until:
                        raise
                    time.sleep(0.1)
        with self._meanwhile(command.get("meanwhile", [])):
            if command["do"] in self._outside.commands:
                answer = {"result": self._outside.commands[command["do"]](self._values.fill(command))}
            else:
                answer = self._asked(command)
        self._compare(command, answer)
        return None

    def _asked(self, command: Mapping[str, Any]) -> dict[str, Any]:
        sent = self._sent(command)
        self._tell(f"> {sent}")
        seconds = sent.get("timeout_milliseconds", DEFAULT_MILLISECONDS) / 1_000 + GRACE_SECONDS
        answer = self._runner.do(sent, seconds)
        self._tell(f"< {answer}")
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "result" in answer:
            answer["result"] = self._received(sent, answer["result"])
        return answer

    def _sent(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """A command for the runner, with its messages checked and encoded."""
        template = {key: value for key, value in command.items() if key not in NOT_SENT}
        sent: dict[str, Any] = self._values.fill(template)
        self._encode(sent)
        for operation in sent.get("operations", []):
            self._encode(operation)
        if "section" in sent:
            sent["section"] = written(message_type("Section"), sent["section"], self._runner.encoding)
        return sent

    def _encode(self, call: dict[str, Any]) -> None:
        if "method" in call:
            kind = rpc(call["method"]).request
            call["request"] = written(kind, call.get("request", {}), self._runner.encoding)

    def _received(self, sent: Mapping[str, Any], result: Any) -> Any:
        """A result with its messages in canonical form. Raises BadAnswer."""
        if not isinstance(result, dict):
            raise BadAnswer(f"the result is {result!r}, not an object")

        def read(kind: type[Any], value: Any) -> Any:
            return canonical(kind, value, self._runner.encoding)

        do = sent["do"]
        if do in SESSION_COMMANDS:
            return {**result, "session": read(message_type("Session"), result.get("session"))}
        if do == "upload":
            return {**result, "response": read(message_type("UploadContentResponse"), result.get("response"))}
        if do in ("watch", "sync"):
            self._streams[sent["stream"]] = do
        if do in ("rpc", "call", "pages"):
            kind = rpc(sent["method"]).response
            if "responses" in result:
                return {**result, "responses": [read(kind, value) for value in result["responses"]]}
            return {**result, "response": read(kind, result.get("response"))}
        if do in ("execute", "execute_once"):
            return {"outcomes": self._outcomes(sent["operations"], result.get("outcomes"), read)}
        if do == "next" and result.get("event") is not None:
            if self._streams[sent["stream"]] == "sync":
                return {"event": read(message_type("SyncMailboxResponse"), result["event"])}
            event = result["event"]
            return {"event": {**event, "changes": read(message_type("FolderChanges"), event.get("changes"))}}
        return result

    def _outcomes(self, operations: Sequence[Mapping[str, Any]], outcomes: Any, read: Any) -> list[Any]:
        if not isinstance(outcomes, list) or len(outcomes) != len(operations):
            raise BadAnswer(f"there are not {len(operations)} outcomes: {str(outcomes)[:300]}")
        return [
            {"response": read(rpc(operation["method"]).response, outcome["response"])}
            if "response" in outcome
            else outcome
            for operation, outcome in zip(operations, outcomes, strict=True)
        ]

    def _compare(self, command: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Compare an answer with the command's expectation. Raises NotAsExpected."""
        wanted = "error" if "error" in command else "result"
        if wanted not in answer:
            got = answer.get("result", answer.get("error"))
            raise NotAsExpected(f"no {wanted} but {str(got)[:700]}")
        key = "error" if wanted == "error" else "expect"
        found = match(self._values.fill(command.get(key, {})), answer[wanted] if command.get(key) else {}, wanted)
        if found.problems:
            raise NotAsExpected("; ".join(found.problems[:5]))
        self._values.variables |= found.bound

    @contextmanager
    def _meanwhile(self, commands: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Run outside commands on another thread during the context. Raises their exceptions."""

        def work() -> None:
            for command in commands:
                time.sleep(command.get("after_milliseconds", 0) / 1_000)
                self._outside.commands[command["do"]](self._values.fill(command))

        with ThreadPoolExecutor(1, "meanwhile") as thread:
            done = thread.submit(work)
            yield
        done.result()


START_VARIABLES = frozenset({"domain", *PEOPLE, "password", "secret"})
"""The variables that are bound at the start."""


def _variables(demo: Demo) -> dict[str, Any]:
    secrets = demo.directory / "secrets"
    return {
        "domain": DOMAIN,
        **{name: demo.address(name) for name in PEOPLE},
        "password": {name: demo.password(name) for name in PEOPLE},
        "secret": {name: (secrets / f"{name}.secret").read_text().strip() for name in IDENTITIES},
    }


def play(language: Language, steps: Sequence[Step], scratch: Path, tell: Tell) -> Iterator[Outcome]:
    """Yield the outcome of each step against a fresh demo. The runner must have been built."""
    scratch.mkdir(parents=True, exist_ok=True)
    left = list(steps)
    with running_demo(scratch / "demo", environment=SETTINGS) as demo, wires() as lines:
        line = lines.to_port(demo.port("api"))
        gateways = lines.to_socket(
            lambda: core_socket(load(demo.configuration)).removeprefix("unix:"),
            str(demo.directory / "tls" / "cert.pem"),
            str(demo.directory / "tls" / "key.pem"),
        )
        hello = {
            "target": f"localhost:{line.port}",
            "gateway_target": f"localhost:{gateways.port}",
            "ca": str(demo.ca),
        }
        try:
            with language.running(hello, scratch / "runner.log") as runner:
                tell(f"ready: {runner.ready}")
                judge = Judge(runner, Outside(demo, lines, line), Values(scratch, _variables(demo)), tell)
                while left:
                    outcome = judge.play(left[0])
                    del left[0]
                    yield outcome
        except RunnerFailed as problem:
            if not left:
                yield Outcome("end", "failed", str(problem))
            for number, step in enumerate(left):
                yield Outcome(step.name, "failed", f"the runner: {problem}" if not number else "the runner has ended")
