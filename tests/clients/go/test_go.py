"""The Go SDK's checks, run by its own tools."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.demo import running_demo

SDK = Path(__file__).resolve().parents[3] / "clients/go"
PASSED = "ok  \tgithub.com/restante/restante/clients/go/restante\t"

pytestmark = [pytest.mark.slow, pytest.mark.builds, pytest.mark.needs("go")]


def _said(*command: str, **environment: str) -> str:
    done = subprocess.run(command, cwd=SDK, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    return done.stdout


def test_the_unit_tests_pass() -> None:
    assert PASSED in _said("go", "test", "-count=1", "-timeout=2m", "./...")


def test_the_live_tests_pass_against_a_demo(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        where = {"RESTANTE_TEST_TARGET": f"localhost:{demo.port('api')}", "RESTANTE_TEST_CA": str(demo.ca)}
        said = _said(
            "go", "test", "-v", "-count=1", "-timeout=3m", "-tags=live", "-run=^TestLive", "./restante", **where
        )
    assert PASSED in said
    assert said.count("--- PASS: TestLive") >= 8


def test_the_code_is_formatted_and_vetted() -> None:
    _said("go", "vet", "-tags=live", "./...")
    written = [str(path) for path in SDK.rglob("*.go") if "v1" not in path.parts]
    assert _said("gofmt", "-l", *written) == ""
