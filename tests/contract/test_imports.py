"""The import rules of single modules (import-linter has those between packages: pyproject.toml).

The test reads the syntax tree, so an import inside a function counts like any other. An import under TYPE_CHECKING
counts too, unless a pure module names a type of one of Restante's modules that is not pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "common", ROOT / "server", ROOT / "gateways", ROOT / "clients/python"]

PURE = [
    "restante_mail",
    "restante_mail.*",
    "restante_server.directory.names",
    "restante_server.transport.outbound.dsn",
    "restante_server.transport.schedule",
    "restante_gateways.imap.grammar.encoder",
    "restante_gateways.imap.view.folder",
    "restante_gateways.imap.grammar.framing",
    "restante_gateways.imap.grammar.parser",
    "restante_gateways.imap.grammar.responses",
    "restante_gateways.imap.grammar.sets",
    "restante_gateways.imap.grammar.utf7",
    "restante_gateways.imap.view.session",
    "restante_gateways.smtp.grammar",
    "restante_gateways.smtp.replies",
]
"""Modules that must be pure even when their docstring does not say so: no I/O, no framework, no clock; octets and
values in, values and octets out. Other modules are pure by `*Pure.*` or `(pure)` in the docstring."""

SAYS_PURE = re.compile(r"\*Pure\.?\*(?! but)|\(pure[):]")

IMPURE = [
    "asyncio",
    "grpc",
    "psycopg",
    "selectors",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "subprocess",
    "threading",
]
"""Modules that a pure module must not import, including all below them."""

CLOCK_READINGS = {
    *(("datetime", name) for name in ("now", "utcnow", "today")),
    ("date", "today"),
    *(
        ("time", name)
        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "process_time", "sleep")
    ),
    *(("time", name) for name in ("localtime", "ctime")),
}
"""(module or class, the names there that read the clock)"""

CONTRACT_HALF = [
    "restante.v1",
    "restante.v1.*",
    "restante.errors",
    "restante.methods",
]
"""The modules of `restante` that the server may import: the wire, the errors, the methods."""


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(*sources: Path) -> dict[str, Path]:
    """{dotted name: file} of every module below the source folders, without generated ones."""
    found = {module_name(path, source): path for source in sources for path in source.rglob("*.py")}
    return {name: path for name, path in sorted(found.items()) if not name.startswith("restante.v1")}


def _for_types_only(tree: ast.Module) -> set[ast.AST]:
    """All nodes below `if TYPE_CHECKING:`."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {below for guard in guards for statement in guard.body for below in ast.walk(statement)}


def imports(text: str, module: str, *, is_package: bool = False, with_types: bool = True) -> Iterator[str]:
    """Dotted names that a module's text imports; `from a import b` gives `a` and `a.b`, relative names are resolved.

    Without `with_types` the result has no imports under TYPE_CHECKING.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    tree = ast.parse(text)
    left_out = set() if with_types else _for_types_only(tree)
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def edges(text: str, module: str, known: Collection[str], *, is_package: bool = False) -> set[str]:
    """The modules of `known` that a module's text imports, including imports under TYPE_CHECKING and inside functions.

    `from a import b` leads to the module `a.b` if it exists, and to `a` otherwise.
    """
    found: set[str] = set()
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found.update(name if name in known else base for name in names)
    return {name for name in found if name in known and name != module}


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Every set of modules that reach each other (strongly connected components, by Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in order:
                visit(other)
            if other in path:
                low[module] = min(low[module], low[other])
        if low[module] == order[module]:
            together = path[path.index(module) :]
            del path[path.index(module) :]
            if len(together) > 1:
                found.append(sorted(together))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return sorted(found)


def imports_of(name: str, path: Path) -> set[str]:
    return set(imports(path.read_text(), name, is_package=path.name == "__init__.py"))


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def impurities(text: str, module: str, *, is_package: bool = False) -> list[str]:
    """The reasons why a module is not pure: its imports, and the clocks it reads."""
    below = [*IMPURE, *(f"{name}.*" for name in IMPURE)]
    imported = set(imports(text, module, is_package=is_package))
    found = {name.split(".")[0] for name in imported if matches(name, below)}
    found |= {f"time.{name}" for owner, name in CLOCK_READINGS if owner == "time" and f"time.{name}" in imported}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", None)
            if (owner, node.attr) in CLOCK_READINGS:
                found.add(f"{owner}.{node.attr}")
    return sorted(found)


def beyond_contract(text: str, module: str) -> list[str]:
    """The imports of a server module from `restante` outside the contract's modules."""
    found = set(imports(text, module))
    ours = {name for name in found if name.startswith("restante.")}
    parts = [*CONTRACT_HALF, *(f"{module}.*" for module in CONTRACT_HALF)]
    bad = {name for name in ours if not matches(name, parts)}
    return sorted(bad | {name for name in found if name == "restante" and not ours})


def is_pure(name: str, text: str) -> bool:
    return matches(name, PURE) or bool(SAYS_PURE.search(ast.get_docstring(ast.parse(text)) or ""))


def pure_modules() -> dict[str, Path]:
    """The pure modules: existing ones of the list, and those whose docstring says so."""
    return {name: path for name, path in modules(*SOURCES).items() if is_pure(name, path.read_text())}


EXISTING = pure_modules()


@pytest.mark.parametrize("pattern", [*PURE, *CONTRACT_HALF])
def test_every_name_in_the_lists_is_that_of_a_module(pattern: str) -> None:
    names = (module_name(path, source) for source in SOURCES for path in source.rglob("*.py"))
    assert any(fnmatchcase(name, pattern) for name in names), f"no module is called {pattern}"


@pytest.mark.parametrize("name", EXISTING)
def test_a_pure_module_imports_no_io_no_framework_and_no_clock(name: str) -> None:
    path = EXISTING[name]
    assert impurities(path.read_text(), name, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("name", EXISTING)
def test_a_pure_module_imports_only_pure_modules_of_ours(name: str) -> None:
    known = modules(*SOURCES)
    # The name of a package only leads to the imported module; the package's imports count for the package.
    path = EXISTING[name]
    found = imports(path.read_text(), name, is_package=_is_package(path), with_types=False)
    ours = {each for each in found if each in known and not _is_package(known[each])}
    assert {each for each in ours if each not in EXISTING and not matches(each, CONTRACT_HALF)} == set()


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


@pytest.mark.parametrize(
    ("docstring", "pure"),
    [
        ("X. *Pure.*", True),
        ("X. *Pure*.", True),
        ("X (pure: now is passed in).", True),
        ("X. *Pure* but for y.", False),
    ],
)
def test_a_module_is_pure_when_it_says_so(docstring: str, pure: bool) -> None:
    assert is_pure("restante_gateways.smtp.somewhere", f'"""{docstring}"""\n') is pure
    assert is_pure("restante_mail.somewhere", f'"""{docstring}"""\n')


def test_the_server_takes_only_the_contract_from_restante() -> None:
    found = {name: beyond_contract(path.read_text(), name) for name, path in modules(ROOT / "server").items()}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_the_gateways_never_import_the_command_line() -> None:
    found = {name: imports_of(name, path) for name, path in modules(ROOT / "gateways").items()}
    assert {name for name, names in found.items() if any(n.startswith("restante_cli") for n in names)} == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import asyncio", ["asyncio"]),
        ("def f():\n    from sqlalchemy.engine import Connection", ["sqlalchemy"]),
        ("import grpc.aio as g", ["grpc"]),
        ("from time import monotonic", ["time.monotonic"]),
        ("import datetime\nx = datetime.datetime.now(datetime.UTC)", ["datetime.now"]),
        ("from datetime import date\nx = date.today()", ["date.today"]),
        ("import time\ntime.sleep(1)", ["time.sleep"]),
        ("from datetime import datetime\nx: datetime\nimport time, re\ntime.gmtime(7)", []),
    ],
)
def test_the_checker_sees_impurity(text: str, expected: list[str]) -> None:
    assert impurities(text, "restante_gateways.imap.grammar.parser") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from restante.client import Client", ["restante.client", "restante.client.Client"]),
        ("import restante.link", ["restante.link"]),
        ("import restante", ["restante"]),
        ("from restante import streams", ["restante.streams"]),
        ("from restante.v1 import folder_pb2\nfrom restante.errors import FolderNotFound", []),
        ("from restante import errors\nimport restante.v1.folder_pb2_grpc", []),
    ],
)
def test_the_checker_sees_more_than_the_contract(text: str, expected: list[str]) -> None:
    assert beyond_contract(text, "restante_server.api.services.folders") == expected


def circles_of_ours() -> list[list[str]]:
    known = modules(*SOURCES)
    graph = {
        name: edges(path.read_text(), name, known, is_package=path.name == "__init__.py")
        for name, path in known.items()
    }
    return circles(graph)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles_of_ours() == []


def test_the_checker_finds_circles() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f", "a"}}
    assert circles(graph) == [["a", "b", "c"], ["f", "g"]]


def test_the_checker_follows_imports_wherever_they_stand() -> None:
    text = (
        "from typing import TYPE_CHECKING\nfrom p import one\nfrom p.two import Thing\n"
        "if TYPE_CHECKING:\n    import p.three\ndef f():\n    from .four import x\n    from p import NAME\n"
    )
    known = {"p", "p.one", "p.two", "p.three", "p.four", "p.five"}
    assert edges(text, "p.five", known) == {"p", "p.one", "p.two", "p.three", "p.four"}
    assert edges("from p import NAME", "p.five", known - {"p"}) == set()


def test_the_checker_tells_imports_for_types_from_others() -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.b\nelse:\n    import c"
    assert "a.b" in set(imports(text, "m"))
    assert set(imports(text, "m", with_types=False)) == {"typing", "typing.TYPE_CHECKING", "c"}


def test_the_checker_resolves_relative_imports() -> None:
    text = "from . import values\nfrom ..net import pump"
    expected = {"a.imap", "a.imap.values", "a.net", "a.net.pump"}
    assert set(imports(text, "a.imap.parser")) == expected
    assert set(imports(text, "a.imap", is_package=True)) == expected
