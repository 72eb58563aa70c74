"""The C++ SDK's tests, built and run by its own tools."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conformance.languages import languages
from tests.harness.demo import running_demo

SDK = Path(__file__).resolve().parents[3] / "clients/cpp"
BUILD = SDK.parents[1] / "build/cpp"  # as its conformance.json has it, so that nothing is compiled twice

pytestmark = [pytest.mark.slow, pytest.mark.builds, pytest.mark.needs("cmake", "g++", "grpc_cpp_plugin")]


def _passed(program: str, **environment: str) -> int:
    """Build a test program, run it, and return the number of passed tests; none may fail."""
    (entry,) = (each for each in languages() if each.key == "cpp")
    configure, build = entry.build
    for command in (configure, [*build[:-1], program]):
        done = subprocess.run(command, cwd=SDK, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    done = subprocess.run([BUILD / program], capture_output=True, text=True, env=os.environ | environment, timeout=300)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-4_000:]
    found = re.search(r"^\[  PASSED  \] (\d+) tests\.$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout[-4_000:]
    return int(found[1])


def test_the_unit_tests_pass() -> None:
    assert _passed("restante_tests") >= 39


def test_the_live_tests_pass_against_a_demo(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        where = {"RESTANTE_TEST_TARGET": f"localhost:{demo.port('api')}", "RESTANTE_TEST_CA": str(demo.ca)}
        assert _passed("restante_live_tests", **where) >= 10
