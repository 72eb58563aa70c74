"""Alembic's environment: numbered forward steps, run by `restante_server.db.migrate`."""
