"""The unit tests of the TypeScript SDK, run by its own tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

SDK = Path(__file__).resolve().parents[3] / "clients/typescript"


@pytest.mark.slow
@pytest.mark.builds
@pytest.mark.needs("node", "npm")
def test_the_unit_tests_of_the_typescript_sdk_pass() -> None:
    subprocess.run([SDK / "install.sh"], check=True)
    done = subprocess.run(["npm", "test"], cwd=SDK, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-4_000:]
    counts = dict(re.findall(r"^[#ℹ] (tests|pass|skipped|todo) (\d+)$", done.stdout, re.MULTILINE))
    assert int(counts["tests"]) >= 50
    assert counts["pass"] == counts["tests"]
