"""The Rust SDK's checks, run by its own tools."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.demo import running_demo

SDK = Path(__file__).resolve().parents[3] / "clients/rust"
PASSED = re.compile(r"^test result: ok\. (\d+) passed; 0 failed; 0 ignored;", re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.builds, pytest.mark.needs("cargo")]


def _said(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=SDK, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    return done


def _passed(*arguments: str, **environment: str) -> int:
    said = _said("cargo", "test", "--quiet", "--package", "restante", *arguments, **environment).stdout
    found = PASSED.search(said)
    assert found is not None, said[-8_000:]
    return int(found[1])


def test_the_unit_tests_pass() -> None:
    assert _passed("--lib") >= 44


def test_the_live_tests_pass_against_a_demo(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        where = {"RESTANTE_TEST_TARGET": f"localhost:{demo.port('api')}", "RESTANTE_TEST_CA": str(demo.ca)}
        # One at a time: they change one account's password and Inbox.
        assert _passed("--test", "live", "--", "--ignored", "--test-threads=1", **where) >= 11


def test_the_documentations_examples_compile() -> None:
    assert _passed("--doc") >= 4


@pytest.mark.needs("rustfmt")
def test_the_code_is_formatted_and_compiles_without_a_warning() -> None:
    _said("cargo", "fmt", "--all", "--check")
    assert "warning" not in _said("cargo", "build", "--workspace", "--all-targets").stderr
