"""The Rust SDK's modules import each other in one direction."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[3] / "clients/rust/src"
_USES = re.compile(r"^\s*(?:pub )?use crate::(\w+)", re.MULTILINE)


def uses(sources: Path) -> dict[str, set[str]]:
    """{module: the modules that it uses}, without the crate's root, which names all."""
    modules = {path.stem: path for path in sources.glob("*.rs") if path.stem != "lib"}
    return {name: set(_USES.findall(path.read_text(encoding="utf-8"))) - {name} for name, path in modules.items()}


def test_there_is_no_circle() -> None:
    order = list(TopologicalSorter(uses(SOURCES)).static_order())
    assert order.index("core") < order.index("client") < order.index("changes")
