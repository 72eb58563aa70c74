"""`restante store migrate` with a program newer than the store: it backs up the store before any change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

import restante_server
from restante_server.db import migrate
from restante_server.db.engine import open_backend
from restante_server.opening import create_store
from restante_server.store import mailboxes
from restante_server.upkeep import restore
from tests.harness.postgres import PostgresServer

NOW = 1_700_000_000_000_000
STEP = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = {before!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("of_the_next_release", sa.Column("number", sa.Integer, primary_key=True))
"""


@pytest.fixture
def next_release(tmp_path: Path) -> dict[str, str]:
    """The environment of a program whose schema is one migration later."""
    tree = tmp_path / "next release"
    package = tree / "restante_server"
    shutil.copytree(Path(restante_server.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    step = STEP.format(before=migrate.expected())
    (package / "db" / "migrations" / "versions" / "next_step.py").write_text(step)
    return {"PYTHONPATH": str(tree)}


@pytest.fixture
def elsewhere(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The target of a restoration."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'restored' / 'store.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory."""
    (tmp_path / "data" / "contents").mkdir(parents=True)
    return tmp_path / "data"


def run(data: Path, url: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "restante_cli", "store", "migrate", "--backup", "--data", str(data)],
        env=os.environ | {"RESTANTE_STORE__URL": url} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fill(url: str) -> None:
    backend = open_backend(url)
    with backend.writer() as tx, tx.begin():
        create_store(tx, NOW)
        mailboxes.create(tx, NOW)
    backend.close()


def migrated(url: str) -> bool:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        return inspect(engine).has_table("of_the_next_release")
    finally:
        engine.dispose()


def test_a_store_is_copied_before_it_is_migrated_and_its_program_restores_the_copy(
    empty_database_url: str, data: Path, next_release: dict[str, str], elsewhere: str, tmp_path: Path
) -> None:
    assert run(data, empty_database_url).returncode == 0
    fill(empty_database_url)
    done = run(data, empty_database_url, next_release)
    assert done.returncode == 0, done.stderr
    (made,) = (data / "backups").iterdir()
    assert done.stdout.splitlines() == [
        f"The backup of the store before its migration is in {made}.",
        "The store is at schema next.",
    ]
    assert migrated(empty_database_url)
    assert json.loads((made / "manifest.json").read_text())["schema"] == migrate.expected()
    assert restore.restore(made, elsewhere, tmp_path / "restored contents") == []
    assert not migrated(elsewhere)


def test_a_store_that_is_new_or_up_to_date_is_not_copied(
    empty_database_url: str, data: Path, next_release: dict[str, str]
) -> None:
    for _ in range(2):
        done = run(data, empty_database_url, next_release)
        assert (done.returncode, done.stdout) == (0, "The store is at schema next.\n")
        assert migrated(empty_database_url)
    assert not (data / "backups").exists()


def test_without_a_backup_nothing_is_migrated(
    empty_database_url: str, data: Path, next_release: dict[str, str]
) -> None:
    assert run(data, empty_database_url).returncode == 0
    fill(empty_database_url)
    (data / "backups").write_text("no directory")
    refused = run(data, empty_database_url, next_release)
    assert refused.returncode == 1
    assert "the store was not migrated, because its backup failed" in refused.stderr
    assert not migrated(empty_database_url)
    (data / "backups").unlink()
    assert run(data, empty_database_url, next_release).returncode == 0
    assert migrated(empty_database_url)
