"""What alembic runs: the connection is given, the transaction is the caller's."""

from __future__ import annotations

from alembic import context

from xobackup.history.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=False,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
