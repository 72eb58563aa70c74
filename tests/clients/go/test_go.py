"""The Go SDK's own checks, run by its own tools."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SDK = Path(__file__).resolve().parents[3] / "clients/go"

pytestmark = [pytest.mark.slow, pytest.mark.needs("go")]


def _said(*command: str) -> str:
    done = subprocess.run(command, cwd=SDK, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    return done.stdout


def test_the_unit_tests_pass() -> None:
    assert "ok  \tgithub.com/restante/restante/clients/go/restante\t" in _said(
        "go", "test", "-count=1", "-timeout=2m", "./..."
    )


def test_the_code_is_formatted_and_vetted() -> None:
    _said("go", "vet", "./...")
    written = [str(path) for path in SDK.rglob("*.go") if "v1" not in path.parts]
    assert _said("gofmt", "-l", *written) == ""
