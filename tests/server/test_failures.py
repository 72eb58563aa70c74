"""A store that cannot be opened gives one clear line with a hint, no traceback, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from restante_process.config import Config, Store
from restante_server.db import migrate
from restante_server.db.lock import StoreLock
from restante_server.failures import described
from restante_server.upkeep.backup_files import FORMAT
from tests.harness.postgres import own_cluster


def restante(*arguments: str) -> str:
    """The one line of a failed command."""
    made = subprocess.run(
        [sys.executable, "-m", "restante_cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 1, made
    (line,) = made.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


@pytest.mark.parametrize("command", [("core",), ("store", "check")])
def test_without_a_store_the_message_gives_the_command_that_makes_it(command: tuple[str, ...], tmp_path: Path) -> None:
    said = restante(*command, "--data", str(tmp_path))
    assert said.startswith(f"the store {tmp_path / 'store.db'} does not exist yet. Run `restante store migrate`")
    assert list(tmp_path.iterdir()) == []


def test_without_a_data_directory_the_message_says_where_to_get_one(tmp_path: Path) -> None:
    said = restante("core", "--data", str(tmp_path / "nowhere"))
    assert (
        f"the data directory {tmp_path / 'nowhere'} does not exist. Create an installation with `restante init`" in said
    )


def test_a_store_that_another_process_has_names_the_process(tmp_path: Path) -> None:
    migrate.upgrade(f"sqlite:///{tmp_path / 'store.db'}")
    with StoreLock(tmp_path):
        assert "is in use by process" in restante("core", "--data", str(tmp_path))


@pytest.mark.parametrize(
    ("url", "said", "todo"),
    [
        ("postgresql://alice:a-secret@127.0.0.1:1/x", "Connection refused", "Start the server, or correct store.url."),
        ("postgresql://alice@nowhere.invalid/x", "nowhere.invalid", "Correct the host in store.url."),
        ("mysql://alice:a-secret@127.0.0.1/x", "mysql databases are not supported", "sqlite or postgresql"),
        ("nonsense", "store.url is not a database URL", "postgresql://USER:PASSWORD@HOST/DATABASE"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line(url: str, said: str, todo: str, tmp_path: Path) -> None:
    line = restante("core", "--data", str(tmp_path), "--set", f"store.url={url}")
    assert said in line
    assert todo in line
    assert "a-secret" not in line


def test_an_empty_postgresql_database_names_the_migration_command(empty_postgres_url: str, tmp_path: Path) -> None:
    line = restante("core", "--data", str(tmp_path), "--set", f"store.url={empty_postgres_url}")
    assert line == "the database has no schema yet. Run `restante store migrate` with the same options."


def test_a_refused_login_and_a_missing_database_say_what_to_correct() -> None:
    with own_cluster() as cluster:
        plain = cluster.maintenance.set(drivername="postgresql")
        rules = cluster.folder / "data" / "pg_hba.conf"
        with psycopg.connect(plain.render_as_string(), autocommit=True) as connection:
            connection.execute("CREATE ROLE alice LOGIN PASSWORD 'right'")
            rules.write_text("local all alice scram-sha-256\n" + rules.read_text())
            connection.execute("SELECT pg_reload_conf()")
        wrong = plain.set(username="alice", password="a-secret")
        line = _failure(wrong.render_as_string(hide_password=False))
        assert "password authentication failed" in line
        assert line.endswith("Correct the user and the password in store.url.")
        assert "a-secret" not in line
        line = _failure(plain.set(database="nowhere").render_as_string())
        assert line.endswith("Create the database with `createdb`, or correct store.url.")
        line = _failure(plain.set(username="bob").render_as_string())
        assert line.endswith("Create the role with `createuser`, or correct store.url.")


def _failure(url: str) -> str:
    with pytest.raises(Exception, match="connection") as caught:
        migrate.upgrade(url)
    return described(caught.value, Config(store=Store(url=url)))


def test_a_file_that_is_no_database_or_is_locked_is_reported(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    (tmp_path / "store.db").write_text("hello")
    line = _sqlite_failure(url)
    assert "file is not a database" in line and line.endswith("Name a store of Restante in store.url.")
    (tmp_path / "store.db").unlink()
    migrate.upgrade(url)
    held = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    try:
        line = _sqlite_failure(url, "base")
    finally:
        held.close()
    assert line.endswith("End the other program that has it open.")


def _sqlite_failure(url: str, revision: str = "head") -> str:
    with pytest.raises(Exception, match="database") as caught:
        migrate.upgrade(url, revision)
    return described(caught.value, Config(store=Store(url=url)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/lock"), "Run this as the user that owns /data."),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/lock"),
            "/data/lock: the disk is full. Free some space.",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/data/lock"),
            "Mount it for writing, or name another directory.",
        ),
    ],
)
def test_a_refusal_of_the_system_is_reported_with_the_file(error: OSError, said: str) -> None:
    line = described(error, Config(data="/data"))
    assert line.startswith("/data/lock: ")
    assert line.endswith(said)


@pytest.mark.parametrize(("made_of", "wanted"), [("postgresql", "sqlite"), ("sqlite", "postgresql")])
def test_a_backup_of_another_kind_of_database_is_refused_with_a_remedy_and_leaves_nothing(
    made_of: str, wanted: str, tmp_path: Path
) -> None:
    backup, data = tmp_path / "backup", tmp_path / "data"
    backup.mkdir()
    manifest = {"format": FORMAT, "database": made_of, "schema": migrate.expected(), "digests": {}}
    (backup / "manifest.json").write_text(json.dumps(manifest))
    options = ["--set", "store.url=postgresql://alice@127.0.0.1:1/x"] if wanted == "postgresql" else []
    line = restante("store", "restore", str(backup), "--data", str(data), *options)
    assert f"is a backup of a {made_of} store, and store.url names a {wanted} one" in line
    assert f"restore it with a store.url of {made_of}" in line
    assert not data.exists()
