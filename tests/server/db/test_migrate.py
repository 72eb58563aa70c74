"""Migrations: the steps give exactly the schema, and a program refuses a schema of another version."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, insert, inspect, select, text

from restante_server.db import migrate, schema
from restante_server.db.engine import Database, open_backend
from restante_server.db.errors import UnknownSchema
from restante_server.db.migrate import SchemaState
from tests.harness.postgres import PostgresServer


@pytest.fixture
def tx(empty_database_url: str) -> Iterator[Connection]:
    """A transaction on an empty database, without the pipeline."""
    backend = open_backend(empty_database_url)
    with backend.writer() as connection, connection.begin():
        yield connection
    backend.close()


def test_the_steps_leave_nothing_that_the_schema_would_add_or_remove(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    backend = open_backend(empty_database_url)
    options = {"compare_type": True, "compare_server_default": migrate.defaults_differ}
    with backend.writer() as tx, tx.begin():
        context = MigrationContext.configure(tx, opts=options)
        assert compare_metadata(context, schema.metadata) == []
        assert migrate.current(tx) == migrate.expected()
        migrate.require_current(tx)
    backend.close()


def test_on_sqlite_the_steps_write_the_very_tables_of_the_schema(sqlite_urls: tuple[str, str]) -> None:
    migrated, created = sqlite_urls
    migrate.upgrade(migrated)
    backend = open_backend(created)
    schema.metadata.create_all(backend.writer_engine)
    backend.close()
    assert _sqlite_texts(migrated) == _sqlite_texts(created)


@pytest.mark.postgres
def test_on_postgresql_the_steps_make_the_very_tables_of_the_schema(postgres: PostgresServer) -> None:
    with postgres.database() as migrated, postgres.database() as created:
        migrate.upgrade(migrated)
        engine = create_engine(created)
        schema.metadata.create_all(engine)
        assert _postgres_facts(create_engine(migrated)) == _postgres_facts(engine)
        engine.dispose()


def test_upgrading_again_changes_nothing(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    try:
        with engine.begin() as tx:
            tx.execute(
                insert(schema.domain).values(ascii_name="example.test", name="example.test", resending=1, created_at=1)
            )
        migrate.upgrade(empty_database_url)
        with engine.connect() as tx:
            assert tx.scalars(select(schema.domain.c.name)).all() == ["example.test"]
            assert migrate.state(tx) is SchemaState.CURRENT
    finally:
        engine.dispose()


def test_an_empty_database_is_told_from_a_foreign_one(tx: Connection) -> None:
    assert migrate.state(tx) is SchemaState.EMPTY
    with pytest.raises(UnknownSchema, match="no schema yet"):
        migrate.require_current(tx)
    tx.execute(text("CREATE TABLE of_somebody_else (a INTEGER)"))
    assert migrate.state(tx) is SchemaState.UNKNOWN
    with pytest.raises(UnknownSchema, match="another program"):
        migrate.require_current(tx)


def test_a_schema_of_a_newer_program_is_refused_and_left_alone(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    backend = open_backend(empty_database_url)
    with backend.writer() as tx, tx.begin():
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with backend.writer() as tx, tx.begin():
        tables = inspect(tx).get_table_names()
        with pytest.raises(UnknownSchema) as refused:
            migrate.require_current(tx)
        assert (refused.value.found, refused.value.expected) == ("9999", migrate.expected())
    with pytest.raises(UnknownSchema, match="9999"):
        migrate.upgrade(empty_database_url)
    with backend.writer() as tx, tx.begin():
        assert inspect(tx).get_table_names() == tables
        assert migrate.current(tx) == "9999"
    backend.close()


async def test_the_state_can_be_asked_in_a_read(database: Database) -> None:
    # The template is made from the metadata, so it has tables and no revision.
    assert await database.read(migrate.state) is SchemaState.UNKNOWN


@pytest.fixture
def sqlite_urls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("migrate")
    return f"sqlite:///{folder / 'migrated.db'}", f"sqlite:///{folder / 'created.db'}"


def _sqlite_texts(url: str) -> dict[str, list[str]]:
    """The CREATE statements, each as its sorted parts: constraints may come in another order."""
    backend = open_backend(url)
    with backend.writer() as tx, tx.begin():
        rows = tx.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
    backend.close()
    return {
        name: sorted(part.strip().rstrip(",") for part in statement.splitlines())
        for name, statement in rows
        if name != "alembic_version"
    }


def _postgres_facts(engine: Engine) -> list[tuple[object, ...]]:
    """Columns with type, NULL, default and identity, indexes, constraints and comments, all by name."""
    columns = """SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'"""
    indexes = (
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    constraints = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'"""
    comments = """SELECT objoid::regclass::text, description FROM pg_description
        WHERE objoid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"""
    queries = (columns, indexes, constraints, comments)
    with engine.connect() as tx:
        facts = [tuple(row) for query in queries for row in tx.execute(text(query))]
    engine.dispose()
    assert len(facts) > 200
    return sorted(facts, key=repr)
