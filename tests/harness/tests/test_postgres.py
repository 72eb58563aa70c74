"""The test session's PostgreSQL: private, empty, and removed at the end."""

from __future__ import annotations

import os
import time

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.harness.postgres import PostgresServer, running_cluster

pytestmark = pytest.mark.postgres


def _tables(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        count: int = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    engine.dispose()
    return count


def _execute(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_each_test_gets_an_empty_database(postgres: PostgresServer) -> None:
    with postgres.database() as one, postgres.database() as other:
        _execute(one, "CREATE TABLE message (id bigint)")
        assert _tables(one) == 1
        assert _tables(other) == 0


def test_a_database_can_be_copied_with_its_schema(postgres: PostgresServer) -> None:
    with postgres.database() as model:
        _execute(model, "CREATE TABLE message (id bigint)")
        with postgres.database(template=make_url(model).database or "") as copy:
            assert _tables(copy) == 1


def test_a_database_is_dropped_although_someone_is_connected(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        postgres.drop_database(url)
        connection.invalidate()
    engine.dispose()
    with pytest.raises(AssertionError):
        postgres.drop_database(str(make_url(url).set(database="somebody_elses")))


def test_making_a_database_is_quick_enough_for_every_test(postgres: PostgresServer) -> None:
    started = time.monotonic()
    with postgres.database():
        pass
    assert time.monotonic() - started < 5


def test_the_session_and_the_test_have_databases_of_their_own(postgres_url: str, empty_postgres_url: str) -> None:
    assert postgres_url != empty_postgres_url
    assert _tables(empty_postgres_url) == 0


def test_a_cluster_leaves_nothing_behind() -> None:
    with running_cluster() as maintenance:
        folder = maintenance.query["host"]
        assert isinstance(folder, str)
        assert os.path.exists(folder)
    assert not os.path.exists(folder)
