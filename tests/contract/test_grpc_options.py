"""gRPC knows every channel and server option that Restante sets; it would silently ignore others."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "server", ROOT / "gateways", ROOT / "clients/python", ROOT / "tests"]
OPTION = re.compile(r"grpc\.[a-z0-9_.]+")
IN_TYPESCRIPT = re.compile(r'"(grpc\.[a-z0-9_.]+)":')


def _in_python(path: Path) -> Iterator[str]:
    """Names of options: the first members of pairs such as ("grpc.keepalive_time_ms", 60_000)."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)) if '"grpc.' in text else ():
        if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
            name = node.elts[0].value
            if isinstance(name, str) and OPTION.fullmatch(name):
                yield name


def options_set() -> set[tuple[str, str]]:
    """The set options, as (file, name)."""
    files = [path for source in SOURCES for path in source.rglob("*.py") if "node_modules" not in path.parts]
    found = {(str(path.relative_to(ROOT)), name) for path in files for name in _in_python(path)}
    target = ROOT / "clients/typescript/src/target.ts"  # grpc-js takes the names of the others
    named = IN_TYPESCRIPT.findall(target.read_text(encoding="utf-8"))
    return found | {(str(target.relative_to(ROOT)), name) for name in named}


@pytest.fixture(scope="module")
def grpc_library() -> bytes:
    """The octets of gRPC's library, which contain the name of each option that it knows."""
    found = importlib.util.find_spec("grpc._cython.cygrpc")
    assert found is not None and found.origin is not None
    return Path(found.origin).read_bytes()


def test_grpc_knows_every_option_that_we_set(grpc_library: bytes) -> None:
    found = options_set()
    assert len(found) > 15
    unknown = sorted((file, name) for file, name in found if name.encode() + b"\0" not in grpc_library)
    assert unknown == []


def test_a_name_that_grpc_does_not_know_is_found_out(grpc_library: bytes) -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms\0" not in grpc_library
    assert b"grpc.http2.min_ping_interval_without_data_ms\0" in grpc_library
