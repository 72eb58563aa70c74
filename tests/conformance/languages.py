"""The languages of the conformance test, each with a file clients/LANGUAGE/conformance.json, and their runners."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.requirements import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "clients"
START_SECONDS = 60.0
END_SECONDS = 15.0
LOG_CHARACTERS = 4_000  # of a runner's standard error


class RunnerFailed(Exception):
    """A runner that could not be built or started, that ended, or that broke the line protocol."""


@dataclass(frozen=True, slots=True)
class Language:
    """One SDK's entry."""

    key: str  # the directory's name, such as "go"
    name: str  # for people, such as "Go"
    directory: Path
    needs: tuple[str, ...]
    build: Sequence[Sequence[str]]
    run: Sequence[str]
    path: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        added = [str(Path(folder).expanduser()) for folder in self.path]
        return os.environ | {"PATH": os.pathsep.join([*added, os.environ.get("PATH", "")])}

    def missing(self) -> str:
        """The reason why it cannot run on this machine; empty when it can."""
        path = self.environment["PATH"]
        for program in self.needs:
            if shutil.which(program, path=path) is None:
                package = PACKAGES.get(program)
                return f"{program} is not installed" + (f" (Debian package {package})" if package else "")
        return ""

    def made(self) -> None:
        """Build the runner. Raises RunnerFailed."""
        for command in self.build:
            done = subprocess.run(
                self._filled(command),
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise RunnerFailed(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-LOG_CHARACTERS:]}")

    def _filled(self, command: Sequence[str]) -> list[str]:
        return [word.replace("{python}", sys.executable) for word in command]

    @contextmanager
    def running(self, hello: dict[str, Any], log: Path) -> Iterator[Runner]:
        """Its runner, for the time of the context. Raises RunnerFailed."""
        with log.open("wb") as errors:
            process = subprocess.Popen(
                self._filled(self.run),
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        runner = Runner(process, log)
        try:
            runner.greet(hello)
            yield runner
            runner.finish()
        finally:
            runner.kill()


def languages(clients: Path = CLIENTS) -> list[Language]:
    """All languages, by name. Raises KeyError or ValueError for a faulty file."""
    found = []
    for file in sorted(clients.glob("*/conformance.json")):
        entry = json.loads(file.read_text(encoding="utf-8"))
        found.append(
            Language(
                key=file.parent.name,
                name=entry["language"],
                directory=file.parent,
                needs=tuple(entry.get("needs", ())),
                build=entry.get("build", []),
                run=entry["run"],
                path=tuple(entry.get("path", ())),
            )
        )
    return found


class Runner:
    """The process of a runner. It runs one command at a time."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="runner", daemon=True)
        self._reader.start()
        self._last_id = 0
        self.ready: dict[str, Any] = {}

    @property
    def encoding(self) -> str:
        """The encoding of messages that it uses."""
        return str(self.ready.get("encoding", "json"))

    def greet(self, hello: dict[str, Any]) -> None:
        """Send it the address of the server."""
        self._write({"hello": hello})
        ready = self._answer(START_SECONDS).get("ready")
        if not isinstance(ready, dict):
            raise RunnerFailed(f"it did not answer `hello` with `ready`{self._said()}")
        self.ready = ready

    def do(self, command: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Run a command and return an object with result, error or unsupported. Raises RunnerFailed."""
        self._last_id += 1
        self._write({"id": self._last_id, **command})
        answer = self._answer(seconds)
        kinds = answer.keys() & {"result", "error", "unsupported"}
        if answer.get("id") != self._last_id or len(kinds) != 1:
            raise RunnerFailed(f"not an answer to command {self._last_id}: {str(answer)[:500]}")
        return answer

    def finish(self) -> None:
        """Wait for its end. Raises RunnerFailed when it does not end, or with a bad exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunnerFailed(f"it did not end within {END_SECONDS:.0f} s of its input's end{self._said()}") from None
        if status != 0:
            raise RunnerFailed(f"it ended with status {status}{self._said()}")

    def kill(self) -> None:
        """End it at once. A second call does nothing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise RunnerFailed(f"it has ended{self._said()}") from None

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()
            raise RunnerFailed(f"it did not answer within {seconds:.0f} s{self._said()}") from None
        if not line:
            raise RunnerFailed(f"it has ended{self._said()}")
        try:
            answer = json.loads(line)
        except ValueError:
            raise RunnerFailed(f"not JSON: {line[:500]!r}") from None
        if not isinstance(answer, dict):
            raise RunnerFailed(f"not an object: {line[:500]!r}")
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _said(self) -> str:
        text = self._log.read_text(errors="replace").strip()
        return f"; it said:\n{text[-LOG_CHARACTERS:]}" if text else ""
