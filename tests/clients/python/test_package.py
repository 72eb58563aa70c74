"""The public names of `import restante`, and the cost for a process that uses only a part of them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

import restante
from restante import Client, SyncClient
from restante.account import Account
from restante.calls import Calls
from restante.changes import Changes
from restante.contents import Contents
from restante.directory import Directory
from restante.drafts import Drafts
from restante.folders import Folders
from restante.jobs import Jobs
from restante.link import CoreLink
from restante.mailboxes import Mailboxes
from restante.messages import Messages
from restante.queue import Queue
from restante.submissions import Submissions
from restante.sync_client import (
    LoopThread,
    SyncAccount,
    SyncChanges,
    SyncContents,
    SyncDirectory,
    SyncDrafts,
    SyncFolders,
    SyncJobs,
    SyncMailboxes,
    SyncMessages,
    SyncQueue,
    SyncSubmissions,
)


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


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_help_of_the_blocking_client_shows_iterators_that_block() -> None:
    for asynchronous, blocking in ((Changes.watch, SyncChanges.watch), (Messages.query, SyncMessages.query)):
        assert str(inspect.signature(asynchronous).return_annotation).startswith("AsyncIterator[")
        assert str(inspect.signature(blocking).return_annotation).startswith("Iterator[")


PAIRS = [
    (Account, SyncAccount),
    (Changes, SyncChanges),
    (Jobs, SyncJobs),
    (Contents, SyncContents),
    (Directory, SyncDirectory),
    (Drafts, SyncDrafts),
    (Folders, SyncFolders),
    (Mailboxes, SyncMailboxes),
    (Messages, SyncMessages),
    (Queue, SyncQueue),
    (Submissions, SyncSubmissions),
]


@pytest.mark.parametrize(("asynchronous", "blocking"), PAIRS)
def test_the_blocking_client_has_every_call_of_the_other(asynchronous: type, blocking: type) -> None:
    assert public(asynchronous) == public(blocking)


def test_both_clients_hold_the_same_objects() -> None:
    made = Client(Calls(cast("CoreLink", None)))
    both = {name: type(value) for name, value in vars(SyncClient(made, cast("LoopThread", None))).items()}
    pairs = {name: (type(getattr(made, name)), kind) for name, kind in both.items() if not name.startswith("_")}
    assert sorted(pairs.values(), key=str) == sorted(PAIRS, key=str)
    assert set(pairs) == set(vars(made)) - {"calls"}
