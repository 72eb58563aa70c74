"""The Java SDK's checks, run by its own tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.demo import running_demo

SDK = Path(__file__).resolve().parents[3] / "clients/java"
SUMMARY = re.compile(r"Tests run: (\d+), Failures: 0, Errors: 0, Skipped: 0$", re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.builds, pytest.mark.needs("javac", "mvn")]


def _tests_passed(*arguments: str) -> int:
    """The number of passed tests. The compiler allows no warning, and no public name without a comment."""
    command = ["mvn", "-B", "-Pstrict", "-Dstyle.color=never", "-pl", "client", "-am", *arguments, "test"]
    done = subprocess.run(command, cwd=SDK, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    found = SUMMARY.search(done.stdout)
    assert found is not None, done.stdout[-8_000:]
    return int(found[1])


def test_the_unit_tests_pass() -> None:
    assert _tests_passed() >= 42


def test_the_live_tests_pass_against_a_demo(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        where = [f"-Drestante.target=localhost:{demo.port('api')}", f"-Drestante.ca={demo.ca}"]
        assert _tests_passed("-Dtest=LiveChecks", "-Dsurefire.failIfNoSpecifiedTests=false", *where) >= 10
