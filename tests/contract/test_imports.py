"""Who may import whom, as far as single modules are concerned (between packages: import-linter, pyproject.toml).

Read from the syntax tree, so an import inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "server", ROOT / "gateways", ROOT / "clients/python"]

PURE = [
    "restante_server.mime",
    "restante_server.mime.*",
    "restante_server.api.convert",
    "restante_server.directory.names",
    "restante_server.transport.dsn",
    "restante_server.transport.schedule",
    "restante_gateways.imap.encoder",
    "restante_gateways.imap.folder_view",
    "restante_gateways.imap.framing",
    "restante_gateways.imap.parser",
    "restante_gateways.imap.responses",
    "restante_gateways.imap.sets",
    "restante_gateways.imap.utf7",
    "restante_gateways.imap.values",
    "restante_gateways.imap.view",
    "restante_gateways.pop3.framing",
    "restante_gateways.pop3.grammar",
    "restante_gateways.smtp.grammar",
    "restante_gateways.smtp.replies",
]
"""Modules without I/O, framework and clock: octets and values in, values and octets out."""

IMPURE = [
    "asyncio",
    "grpc",
    "http",
    "os",
    "psycopg",
    "selectors",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "time",
]
"""What a pure module may not import, and neither may anything below these names."""

CLOCK_READINGS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}

CONTRACT_HALF = ["restante.v1", "restante.v1.*", "restante.errors", "restante.methods"]
"""What the server may import from `restante`; `methods` has the type of what `restante.v1.methods` lists."""


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(*sources: Path) -> dict[str, Path]:
    """{dotted name: file} of every module below the source folders, generated ones left out."""
    found = {module_name(path, source): path for source in sources for path in source.rglob("*.py")}
    return {name: path for name, path in sorted(found.items()) if not name.startswith("restante.v1")}


def imports(text: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Dotted names that a module's text imports; `from a import b` gives `a` and `a.b`, relative names are resolved."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(name: str, path: Path) -> set[str]:
    return set(imports(path.read_text(), name, is_package=path.name == "__init__.py"))


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def impurities(text: str, module: str, *, is_package: bool = False) -> list[str]:
    """Why a module is not pure: what it imports, and the clocks it reads."""
    below = [*IMPURE, *(f"{name}.*" for name in IMPURE)]
    found = {name.split(".")[0] for name in imports(text, module, is_package=is_package) if matches(name, below)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", None)
            if (owner, node.attr) in CLOCK_READINGS:
                found.add(f"{owner}.{node.attr}")
    return sorted(found)


def beyond_contract(text: str, module: str) -> list[str]:
    """What a server module imports from `restante` besides its contract half."""
    found = set(imports(text, module))
    ours = {name for name in found if name.startswith("restante.")}
    bad = {name for name in ours if not matches(name, [*CONTRACT_HALF, "restante.errors.*", "restante.methods.*"])}
    return sorted(bad | {name for name in found if name == "restante" and not ours})


# Modules of the list that are not built yet are not looked for; each that exists is checked.
EXISTING = {name: path for name, path in modules(*SOURCES).items() if matches(name, PURE)}


@pytest.mark.parametrize("name", EXISTING)
def test_a_pure_module_imports_no_io_no_framework_and_no_clock(name: str) -> None:
    path = EXISTING[name]
    assert impurities(path.read_text(), name, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("name", EXISTING)
def test_a_pure_module_imports_only_pure_modules_of_ours(name: str) -> None:
    known = modules(*SOURCES)
    ours = {found for found in imports_of(name, EXISTING[name]) if found in known and found.count(".")}
    # A package's own name only leads to the module meant; what it imports itself is its own affair.
    packages = {found for found in ours if known[found].name == "__init__.py" and not matches(found, PURE)}
    assert {found for found in ours - packages if not matches(found, PURE)} == set()


def test_the_server_takes_only_the_contract_from_restante() -> None:
    found = {name: beyond_contract(path.read_text(), name) for name, path in modules(ROOT / "server").items()}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_the_gateways_never_import_the_command_line() -> None:
    found = {name: imports_of(name, path) for name, path in modules(ROOT / "gateways").items()}
    assert {name for name, names in found.items() if any(n.startswith("restante.cli") for n in names)} == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import asyncio", ["asyncio"]),
        ("def f():\n    from sqlalchemy.engine import Connection", ["sqlalchemy"]),
        ("import grpc.aio as g", ["grpc"]),
        ("from time import monotonic", ["time"]),
        ("import datetime\nx = datetime.datetime.now(datetime.UTC)", ["datetime.now"]),
        ("from datetime import date\nx = date.today()", ["date.today"]),
        ("from datetime import datetime\nx: datetime\nimport timeit, re", []),
    ],
)
def test_the_checker_sees_impurity(text: str, expected: list[str]) -> None:
    assert impurities(text, "restante_gateways.imap.parser") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from restante.client import Client", ["restante.client", "restante.client.Client"]),
        ("import restante.cli.main", ["restante.cli.main"]),
        ("import restante", ["restante"]),
        ("from restante import streams", ["restante.streams"]),
        ("from restante.v1 import folder_pb2\nfrom restante.errors import FolderNotFound", []),
        ("from restante import errors\nimport restante.v1.folder_pb2_grpc", []),
    ],
)
def test_the_checker_sees_more_than_the_contract(text: str, expected: list[str]) -> None:
    assert beyond_contract(text, "restante_server.api.folders") == expected


def test_the_checker_resolves_relative_imports() -> None:
    text = "from . import values\nfrom ..net import pump"
    expected = {"a.imap", "a.imap.values", "a.net", "a.net.pump"}
    assert set(imports(text, "a.imap.parser")) == expected
    assert set(imports(text, "a.imap", is_package=True)) == expected
