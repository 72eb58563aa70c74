"""The checked-in TypeScript code of the contract equals a fresh generation from the protos."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "clients/typescript"


def _generated(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.needs("node", "npm")
def test_the_generated_typescript_code_is_not_stale(tmp_path: Path) -> None:
    done = subprocess.run([SDK / "generate.sh", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted, found = _generated(tmp_path), _generated(SDK / "src/gen")
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    assert stale == [], "run `make sdk`"
    assert len(wanted) == len(list((ROOT / "protos/restante/v1").glob("*.proto"))) + 2  # google/rpc: status, details


def test_every_module_of_the_contract_can_be_imported_from_the_package() -> None:
    exported = (SDK / "src/v1.ts").read_text(encoding="utf-8")
    modules = {path.name.removesuffix(".ts") for path in (SDK / "src/gen/restante/v1").glob("*_pb.ts")}
    assert {name for name in modules if f'"./gen/restante/v1/{name}.js"' not in exported} == set()


def test_the_version_is_said_alike_in_both_places() -> None:
    version = (SDK / "package.json").read_text(encoding="utf-8").split('"version": "')[1].split('"')[0]
    assert f'VERSION = "{version}"' in (SDK / "src/index.ts").read_text(encoding="utf-8")
