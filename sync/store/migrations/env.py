"""Runs the migrations when Alembic loads this file, on the connection and in the transaction of `Database.upgrade`."""

from alembic import context

from sync.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
