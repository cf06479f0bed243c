"""The database schema's history, applied by alembic."""
