"""Mailbox data is reached by a Place, and one function decides it (docs/design.md "Places and rights")."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import restante_server
import restante_server.store
from restante_server.directory import rights

SERVER = Path(restante_server.__file__).parent
OTHER_DATA = frozenset(("check", "contents", "decoded", "garbage", "listing", "requests", "runs", "staging", "uploads"))
"""Modules of the store without a Place: contents, request ids and uploads belong to no mailbox, `check` to all."""
ACROSS = {
    "mailboxes.create": "makes the mailbox",
    "mailboxes.change_numbers": "numbers alone, for the notifier, which compares all watched mailboxes",
    "changes.of_folders": "numbers alone, for followers, each of which was checked when it asked",
    "changes.epoch": "of the store",
    "changes.with_old_history": "finds work for upkeep",
    "removal.due": "finds work for upkeep",
    "removal.over": "finds work for upkeep",
    "removal.ownerless": "finds work for upkeep",
    "erasure.lapsed": "finds work for upkeep",
    "messages.add_all": "each of its placements has a place",
    "changes.touch_folders": "each of its numbers has a place",
    "changes.note_deltas": "each of its deltas has a place",
}
MAKERS = {
    "Place": {"directory/rights.py"},
    "decide": {"directory/rights.py"},
    "Claim": {"directory/rights.py", "api/engine/call.py", "api/services/watcher.py"},
    "system": {
        "accounts/lifecycle.py",
        "store/mailboxes.py",
        "transport/enqueue.py",
        "transport/inbound/deliver.py",
        "transport/submission.py",
        "transport/take.py",
        "upkeep/kinds/account_deletion.py",
        "upkeep/sweeps.py",
    },
}
"""The modules that may make a place or a claim. Handlers make neither: `Call.claim` and `Call.place` do."""


def store_functions() -> Iterator[tuple[str, inspect.Signature]]:
    """Public functions of the store that take a transaction or make a Lookup, as "module.name"."""
    for module in pkgutil.iter_modules(restante_server.store.__path__, "restante_server.store."):
        short = module.name.rpartition(".")[2]
        if short in OTHER_DATA:
            continue
        for name, found in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            signature = inspect.signature(found)
            takes_transaction = any(one.annotation == "Connection" for one in signature.parameters.values())
            reads = takes_transaction or signature.return_annotation == "prepared.Lookup"
            if found.__module__ == module.name and reads and not name.startswith("_"):
                yield f"{short}.{name}", signature


def test_every_function_of_the_store_takes_a_place() -> None:
    bare = {
        name
        for name, signature in store_functions()
        if not any(one.annotation == "Place" for one in signature.parameters.values())
    }
    assert bare == ACROSS.keys()


def test_no_function_of_the_store_takes_the_number_of_a_mailbox_beside_or_instead_of_it() -> None:
    numbered = {name for name, signature in store_functions() if "mailbox_id" in signature.parameters}
    assert numbered == set()


def test_functions_of_one_folder_take_it_from_the_place() -> None:
    beside = {name for name, signature in store_functions() if "folder_id" in signature.parameters}
    assert beside == {"folders.named", "folders.path_of"}  # of folders that are not the place's own


def makers(path: Path) -> Iterator[str]:
    """The names of MAKERS that a module calls or hands on."""
    tree = ast.parse(path.read_text())
    annotations = {
        id(node)
        for parent in ast.walk(tree)
        for attribute in ("annotation", "returns")
        if isinstance(hint := getattr(parent, attribute, None), ast.AST)
        for node in ast.walk(hint)
    }
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "rights":
            yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.parametrize("maker", MAKERS)
def test_places_are_made_where_rights_are_decided(maker: str) -> None:
    assert callable(getattr(rights, maker))
    using = {
        path.relative_to(SERVER).as_posix()
        for path in SERVER.rglob("*.py")
        if "rights" in path.read_text() and maker in makers(path)
    }
    assert using == MAKERS[maker]
