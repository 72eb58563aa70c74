"""Prepared statements give the same results as SQLAlchemy's execution, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update

from restante_server.db import prepared, schema
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.rowlocks import lock_rows
from restante_server.db.schema import account, domain, sealing_key
from restante_server.db.upsert import insert_missing

_insert = insert(domain)
_insert_key = insert(sealing_key)
_all = select(domain.c.ascii_name, domain.c.catch_all).order_by(domain.c.domain_id)
_named = select(domain.c.domain_id, domain.c.name).where(domain.c.ascii_name == bindparam("name"))
_without_catch_all = select(domain.c.name).where(domain.c.created_at == 5, domain.c.ascii_name == bindparam("name"))
_rename = update(domain).where(domain.c.ascii_name == bindparam("old")).values(name=bindparam("new"))
_raise = (
    update(domain)
    .where(domain.c.ascii_name == bindparam("old"))
    .values(created_at=domain.c.created_at + bindparam("more"))
    .returning(domain.c.created_at)
)
_expanding = select(domain.c.name).where(domain.c.ascii_name.in_(bindparam("names", expanding=True)))
_insert_account = insert(account)
_truths = select(account.c.enabled, account.c.administrator)
_secrets = select(sealing_key.c.secret)


def made(tx: Connection, *names: str) -> None:
    rows = [{"ascii_name": name, "name": name, "resending": 1, "created_at": 5} for name in names]
    prepared.run_many(tx, _insert, rows)


async def test_rows_are_inserted_read_and_changed(database: Database) -> None:
    def run(tx: Connection) -> None:
        made(tx, "example.org")
        made(tx, "example.com", "example.net")
        made(tx)
        assert prepared.rows(tx, _all, {}) == [("example.org", None), ("example.com", None), ("example.net", None)]
        assert prepared.run(tx, _rename, {"old": "example.org", "new": "Example.ORG"}) == 1
        assert prepared.run(tx, _rename, {"old": "example.edu", "new": "x"}) == 0
        found = prepared.first(tx, _named, {"name": "example.org"})
        assert found is not None
        assert found[1] == "Example.ORG"
        assert prepared.first(tx, _named, {"name": "example.edu"}) is None

    await database.write(Write(run))


async def test_a_statement_runs_for_each_of_many_parameters(database: Database) -> None:
    def run(tx: Connection) -> None:
        assert prepared.first_of_each(tx, _named, []) == []
        assert prepared.run_each(tx, _rename, []) == 0
        missing = insert_missing(tx, domain)
        rows = [{"ascii_name": name, "name": name, "resending": 1, "created_at": 5} for name in ("a.org", "b.org")]
        assert prepared.run_each(tx, missing, rows) == 2
        assert prepared.run_each(tx, missing, [*rows, {**rows[0], "ascii_name": "c.org"}]) == 1
        found = prepared.first_of_each(tx, _named, [{"name": name} for name in ("b.org", "x.org", "a.org")])
        assert [row and row[1] for row in found] == ["b.org", None, "a.org"]
        renamed = [{"old": "a.org", "new": "A.org"}, {"old": "x.org", "new": "X"}, {"old": "b.org", "new": "B.org"}]
        assert prepared.run_each(tx, _rename, renamed) == 2
        assert [row[0] for row in prepared.rows(tx, _all, {})] == ["a.org", "b.org", "c.org"]

    await database.write(Write(run))


async def test_values_within_a_statement_count_and_parameters_it_does_not_know_are_ignored(database: Database) -> None:
    def run(tx: Connection) -> None:
        made(tx, "example.org")
        assert prepared.rows(tx, _without_catch_all, {"name": "example.org", "other": 1}) == [("example.org",)]
        assert prepared.rows(tx, _raise, {"old": "example.org", "more": 2}) == [(7,)]
        assert prepared.rows(tx, _without_catch_all, {"name": "example.org"}) == []

    await database.write(Write(run))


async def test_octets_and_truth_values_are_what_they_were(database: Database) -> None:
    def run(tx: Connection) -> None:
        secret = bytes(range(256))
        tx.execute(sealing_key.delete())
        prepared.run_many(tx, _insert_key, [{"key_id": 7, "secret": secret, "created_at": 1}])
        assert prepared.rows(tx, _secrets, {}) == [(secret,)]
        made(tx, "example.org")
        (domain_id,) = tx.scalars(select(domain.c.domain_id))
        row = {"domain_id": domain_id, "address": "a", "address_key": "a", "sent_copy": 1, "credential_version": 1}
        row |= {"mailbox_id": 1, "created_at": 1, "enabled": True, "administrator": False}
        prepared.run_many(tx, _insert_account, [row])
        (found,) = prepared.rows(tx, _truths, {})
        assert (found[0] is True, found[1] is False) == (True, True)
        assert list(map(tuple, tx.execute(_truths))) == [(True, False)]

    await database.write(Write(run))


async def test_the_columns_of_an_insert_are_those_of_its_rows(database: Database) -> None:
    def run(tx: Connection) -> None:
        made(tx, "example.org")
        row = {"ascii_name": "example.com", "name": "n", "resending": 1, "created_at": 5}
        prepared.run_many(tx, _insert, [{**row, "catch_all": "alice@example.com"}])
        assert prepared.rows(tx, _all, {}) == [("example.org", None), ("example.com", "alice@example.com")]

    await database.write(Write(run))


async def test_a_list_that_expands_and_a_missing_parameter_are_refused(database: Database) -> None:
    def run(tx: Connection) -> None:
        with pytest.raises(TypeError, match="expands"):
            prepared.rows(tx, _expanding, {"names": ["example.org"]})
        if tx.dialect.name == "sqlite":
            with pytest.raises(KeyError):
                prepared.rows(tx, _named, {})

    await database.write(Write(run))


def test_the_locks_of_a_table_are_one_statement_for_all_stores_of_a_process() -> None:
    key = schema.mailbox.c.mailbox_id
    assert lock_rows(key) is lock_rows(key)
    assert lock_rows(key) is not lock_rows(schema.content.c.content_id)
