"""The checked-in Go code of the contract equals a fresh generation from the protos."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "clients/go"


def _generated(folder: Path) -> dict[str, bytes]:
    files = [*folder.glob("restante/v1/*"), folder / "restante/reasons.go"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.needs("go")
def test_the_generated_go_code_is_not_stale(tmp_path: Path) -> None:
    done = subprocess.run([SDK / "generate.sh", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted, found = _generated(tmp_path), _generated(SDK)
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    assert stale == [], "run `make sdk`"
    assert len(wanted) > 20
