"""Each language's quickstart is short, equals the text in the README, and runs with the README's commands.

The commands are the first indented block of the README's section "Quickstart". The test runs them in an empty directory
with RESTANTE naming this tree, as the README says, against a separate demo.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from tests.conformance.languages import ROOT, languages
from tests.harness.demo import Demo, running_demo
from tests.harness.requirements import missing

SERVER, CA = "localhost:2051", "$RESTANTE/build/demo/ca.pem"  # the demo's address and CA in the READMEs
MAX_LINES = 40  # of program text, without blank lines
RUN_SECONDS = 900  # including the build


QUICKSTARTS = {
    "cpp": "quickstart/main.cc",
    "go": "quickstart/main.go",
    "java": "quickstart/src/main/java/Quickstart.java",
    "python": "quickstart.py",
    "rust": "quickstart/main.rs",
    "typescript": "quickstart.mts",
}
"""The program of each language, in clients/LANGUAGE. The language's conformance.json names its requirements."""

LANGUAGES = {language.key: language for language in languages()}
each = pytest.mark.parametrize("key", QUICKSTARTS)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("quickstarts") / "demo") as running:
        yield running


def _section(key: str) -> str:
    readme = (LANGUAGES[key].directory / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## Quickstart\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert found is not None, "the README has no section Quickstart"
    return found[1]


def _commands(key: str) -> str:
    lines = iter(_section(key).splitlines())
    first = next(line for line in lines if line.startswith("    "))
    block = [first, *takewhile(lambda line: line.startswith("    "), lines)]
    return "\n".join(line.removeprefix("    ") for line in block)


@each
def test_a_quickstart_is_short_and_its_readme_shows_it_as_it_is(key: str) -> None:
    text = (LANGUAGES[key].directory / QUICKSTARTS[key]).read_text(encoding="utf-8").expandtabs(4)
    shown = "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())
    assert shown in _section(key)
    assert len([line for line in text.splitlines() if line.strip()]) <= MAX_LINES


@pytest.mark.slow
@pytest.mark.builds
@each
def test_a_quickstart_runs_by_the_commands_of_its_readme(key: str, demo: Demo, tmp_path: Path) -> None:
    language = LANGUAGES[key]
    if reason := language.missing():
        missing(reason)
    commands = _commands(key)
    assert SERVER in commands
    assert CA in commands
    commands = commands.replace(SERVER, f"localhost:{demo.port('api')}").replace(CA, str(demo.ca))
    environment = language.environment | {"RESTANTE": str(ROOT)}
    if key == "python":  # `python3` is the interpreter of this test: the machine's may be too old
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    if key == "rust":  # shares the compiled dependencies with the runner
        environment |= {
            "CARGO_TARGET_DIR": str(language.directory / "target"),
            "CARGO_PROFILE_DEV_DEBUG": "line-tables-only",
        }
    done = _run(commands, tmp_path, environment)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert re.search(r"^arrived: message \d+", done.stdout, re.MULTILINE), done.stdout[-4_000:]
    assert f"Hello from {language.name}" in done.stdout

    nobody = f"localhost:{_closed_port()}"
    alone = commands.splitlines()[-1].replace(f"localhost:{demo.port('api')}", nobody)
    done = _run(alone, tmp_path, environment)
    assert done.returncode != 0, "a server that is down went unnoticed"
    assert f"cannot reach {nobody}: " in (done.stdout + done.stderr).lower(), done.stderr[-4_000:]
    assert "refused" in (done.stdout + done.stderr).lower(), done.stderr[-4_000:]


def _run(commands: str, directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
