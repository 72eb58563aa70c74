"""A fresh database for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from restante_server.db import schema
from restante_server.db.engine import Database, open_database
from restante_server.db.group import Locks
from restante_server.db.hooks import Observer
from restante_server.db.rowlocks import lock_rows
from restante_server.db.sqlite import SqliteBackend, SqliteSettings
from tests.harness.faults import DatabaseFaults
from tests.harness.postgres import PostgresServer

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
def dialect(request: pytest.FixtureRequest) -> str:
    """The database's kind. Each test that uses this fixture, directly or through `database`, runs once on each kind."""
    name: str = request.param
    return name


@pytest.fixture
def empty_database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for this test alone, without tables."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema only; tests copy it."""
    path = tmp_path_factory.mktemp("template") / "store.db"
    backend = SqliteBackend(make_url(f"sqlite:///{path}"), SqliteSettings())
    schema.metadata.create_all(backend.writer_engine)
    backend.close()
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database with the schema only."""
    with postgres.database() as url:
        engine = create_engine(url)
        schema.metadata.create_all(engine)
        engine.dispose()
        yield str(engine.url.database)


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database for this test alone, with the schema."""
    if dialect == "sqlite":
        path = tmp_path / "store.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database(request.getfixturevalue("postgres_template")) as url:
            yield url


@pytest.fixture
def faults() -> DatabaseFaults:
    """The faults of `database`: none until the test sets one."""
    return DatabaseFaults()


@pytest.fixture
def observer() -> Observer:
    """The observer of the figures of `database`; a module that counts them overrides this fixture."""
    return Observer()


@pytest.fixture
def locks() -> Locks:
    return Locks(lock_rows(schema.mailbox.c.mailbox_id), lock_rows(schema.content.c.content_id))


@pytest.fixture
async def database(
    database_url: str, faults: DatabaseFaults, observer: Observer, locks: Locks
) -> AsyncIterator[Database]:
    """An open database with the schema, closed after the test."""
    opened = open_database(database_url, locks=locks, faults=faults, observer=observer)
    yield opened
    await opened.close()
