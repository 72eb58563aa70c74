"""The distribution of the client library: the content of its wheel, and its use with its dependencies alone.

Nothing is downloaded: the installed hatchling builds the wheel, and the new environment gets copies of the installed
dependencies that the wheel names.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import restante

ROOT = Path(__file__).resolve().parents[3]
CLIENT = ROOT / "clients/python"

PROGRAM = """\
import importlib, pkgutil, sys
import restante
from restante import Client, SyncClient, query
for module in pkgutil.walk_packages(restante.__path__, restante.__name__ + "."):
    importlib.import_module(module.name)
for name in ("click", "sqlalchemy", "grpc_health", "restante_cli", "restante_mail", "restante_server"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(name + " came along")
print(restante.__version__, restante.__file__)
"""


def build(source: Path, target: Path, kind: str) -> Path:
    """The wheel or source distribution of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CLIENT, tmp_path_factory.mktemp("wheel"), "wheel")


def listed(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def requirements(texts: list[str]) -> set[Requirement]:
    """The requirements that apply on this machine and belong to no extra."""
    found = {Requirement(text) for text in texts}
    return {each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})}


def required(wheel: Path) -> set[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return requirements(message_from_bytes(archive.read(name)).get_all("Requires-Dist", []))


def files(folder: Path) -> set[str]:
    """The files of a package, by their paths from the folder above it."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix() for path in found}


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    held = {name for name in listed(wheel) if ".dist-info/" not in name}
    assert held == files(CLIENT / "restante")
    assert {name.split("/")[0] for name in held} == {"restante"}
    assert any(name.endswith("licenses/LICENSE") for name in listed(wheel))


def test_the_wheel_of_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    source = build(CLIENT, tmp_path / "source", "sdist")
    shutil.unpack_archive(source, tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert listed(build(unpacked, tmp_path / "wheel", "wheel")) == listed(wheel)


def test_version_and_floors_are_those_of_the_platform(wheel: Path) -> None:
    platform = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    client = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))
    assert requirements(client["project"]["dependencies"]) <= requirements(platform["project"]["dependencies"])
    assert requirements(client["project"]["dependencies"]) == required(wheel)
    assert client["project"]["requires-python"] == platform["project"]["requires-python"]
    versions = {(CLIENT / client["tool"]["hatch"]["version"]["path"]).resolve()}
    versions.add((ROOT / platform["tool"]["hatch"]["version"]["path"]).resolve())
    assert len(versions) == 1
    assert f"-{restante.__version__}-" in wheel.name
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def closure(wanted: set[Requirement]) -> Iterator[Distribution]:
    """The installed distributions of the requirements, including indirect ones."""
    seen: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop().name
        if name not in seen:
            seen.add(name)
            dependency = distribution(name)
            waiting += requirements(dependency.requires or [])
            yield dependency


def test_it_works_in_an_environment_of_its_dependencies_alone(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for dependency in closure(required(wheel)):
        for file in dependency.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(Path(str(dependency.locate_file(file))).resolve())
    command = [str(tmp_path / "venv/bin/python"), "-I", "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    version, place = done.stdout.split()
    assert version == restante.__version__
    assert Path(place).is_relative_to(packages)
