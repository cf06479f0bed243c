"""What alembic runs: every migration in the one transaction that `Database.upgrade` opened."""

from alembic import context

from nightingale_hub.tables.base import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The transaction is the caller's, so that four upgrades at once are one after another.
    transactional_ddl=False,
)
context.run_migrations()
