"""Skips report their reason, and fail the run when no skip is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import requirements

ROOT = Path(__file__).resolve().parents[3]
TESTS = """
import pytest

def test_runs():
    assert True

@pytest.mark.needs("swaks")
def test_needs_a_program():
    raise AssertionError("ran without its program")

def test_skips_by_itself():
    {body}
"""


def _run(folder: Path, *, no_skip: bool, body: str) -> tuple[int, str]:
    """Run pytest over TESTS on a machine without programs: (exit code, output)."""
    (folder / "test_sample.py").write_text(TESTS.format(body=body))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RESTANTE_", "PYTEST_"))}
    environment |= {"PATH": str(folder), "PYTHONPATH": str(ROOT)}
    if no_skip:
        environment["RESTANTE_NO_SKIP"] = "1"
    options = ["-p", "tests.harness.requirements", "-ra", "-c", os.devnull, f"--rootdir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)], env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_a_missing_program_is_a_skip_with_its_package_named(tmp_path: Path) -> None:
    code, output = _run(tmp_path, no_skip=False, body="pass")
    assert code == 0, output
    assert "2 passed, 1 skipped" in output
    assert "swaks is not installed (Debian package swaks)" in output


def test_a_missing_program_fails_where_no_skip_is_allowed(tmp_path: Path) -> None:
    code, output = _run(tmp_path, no_skip=True, body="pass")
    assert code == 1, output
    assert "swaks is not installed (Debian package swaks) (RESTANTE_NO_SKIP=1 allows no skip)" in output


def test_any_skip_at_all_fails_the_run_where_none_is_allowed(tmp_path: Path) -> None:
    program = tmp_path / "swaks"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    sample = TESTS.replace('raise AssertionError("ran without its program")', "assert True")
    body = 'pytest.skip("not today")'
    (tmp_path / "one").mkdir()
    (tmp_path / "one/test_sample.py").write_text(sample.format(body=body))
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "RESTANTE_NO_SKIP": "1"}
    options = ["-p", "tests.harness.requirements", "-c", os.devnull, f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path / "one")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "2 passed, 1 skipped" in done.stdout
    assert "FAILED: 1 skipped, and RESTANTE_NO_SKIP=1 allows none" in done.stdout
    assert done.returncode == 1
    allowed = subprocess.run(command, env=environment | {"RESTANTE_NO_SKIP": ""}, capture_output=True, text=True)
    assert allowed.returncode == 0, allowed.stdout


def test_only_listed_programs_can_be_asked_for() -> None:
    with pytest.raises(KeyError):
        requirements.program("no-such-program")
    assert requirements.program("git").name == "git"
