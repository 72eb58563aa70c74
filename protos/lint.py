"""Holds the contract to buf's lint rules, and to compatibility with the last release (rules: buf.yaml).

buf comes from npm (package.json). Where npm is missing this says so and succeeds, except under CI=true, where it fails.
The image of the last release is built from the protos in its git tag; until a first `v*` tag there is nothing to break.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from protos.generate import ROOT, GenerationFailed, sources, write_image

BUF = ROOT / "node_modules/.bin/buf"
IMAGE = ROOT / "build/restante.binpb"


def _git(*arguments: str) -> bytes | None:
    """Output of a git command, or None where it fails or there is no git."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _install_buf() -> bool:
    """Whether buf is there, fetched with npm if need be."""
    if shutil.which("npm") is None:
        return False
    lock, installed = ROOT / "package-lock.json", ROOT / "node_modules/.package-lock.json"
    if not BUF.exists() or not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--ignore-scripts", "--loglevel=error"], cwd=ROOT, check=True)
        installed.touch()
    return True


def _buf(*arguments: str) -> bool:
    return (
        subprocess.run([str(BUF), *arguments, "--config", str(ROOT / "buf.yaml")], cwd=ROOT, check=False).returncode
        == 0
    )


def _breaks_nothing() -> bool:
    tag = (_git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*") or b"").decode().strip()
    if not tag:
        print("buf breaking: no release tag yet, so there is no published contract to compare with")
        return True
    archive = _git("archive", "--format=tar", tag, "protos")
    if archive is None:
        print(f"buf breaking: {tag} has no protos, so there is nothing to compare with")
        return True
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(fileobj=BytesIO(archive)) as packed:
            packed.extractall(scratch, filter="data")
        before = Path(scratch) / "before.binpb"
        write_image(before, Path(scratch) / "protos")
        print(f"buf breaking: against {tag}")
        return _buf("breaking", str(IMAGE), "--against", str(before))


def main() -> int:
    if not sources():
        print("buf: no protos yet")
        return 0
    if not _install_buf():
        print("buf: skipped, npm is not installed", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    try:
        write_image(IMAGE)
        lint, breaking = _buf("lint", str(IMAGE)), _breaks_nothing()
    except GenerationFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if lint and breaking else 1


if __name__ == "__main__":
    sys.exit(main())
