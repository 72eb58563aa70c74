"""The names that `import restante` gives, and what it costs a process that wants only a part of them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import restante
from restante import Client, SyncClient


@pytest.mark.parametrize("name", restante.__all__)
def test_each_public_name_is_a_class_that_can_be_imported(name: str) -> None:
    assert inspect.isclass(getattr(restante, name))
    assert name in dir(restante)


def test_type_checkers_and_programs_see_the_same_names() -> None:
    tree = ast.parse(Path(inspect.getfile(restante)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {name for name, _ in typed} == set(restante.__all__)
    for name, module in typed:
        assert getattr(restante, name) is getattr(sys.modules[str(module)], name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Clint"):
        restante.Clint  # noqa: B018


def test_the_errors_are_imported_without_the_client() -> None:
    program = (
        "import sys, restante.errors; sys.exit('restante.client' in sys.modules or 'restante.link' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_help_of_the_blocking_client_shows_iterators_that_block() -> None:
    for name in ("watch", "messages", "folders"):
        assert str(inspect.signature(getattr(Client, name)).return_annotation).startswith("AsyncIterator[")
        assert str(inspect.signature(getattr(SyncClient, name)).return_annotation).startswith("Iterator[")
