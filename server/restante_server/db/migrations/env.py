"""The environment script that Alembic runs; never import it. `migrate` provides the connection, in a transaction, and
the metadata."""

from __future__ import annotations

from alembic import context

from restante_server.db.migrate import defaults_differ

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=attributes["metadata"],
    transactional_ddl=True,  # on SQLite too, so that either all steps are committed or none
    compare_type=True,
    compare_server_default=defaults_differ,
    render_as_batch=False,  # steps only add, so no table is ever copied
)
with context.begin_transaction():
    context.run_migrations()
