"""The database: SQLite or PostgreSQL, one transaction at a time, retried whole.

SQLAlchemy's own defaults silently lose updates when six processes write one SQLite file; a
write here takes the write lock before it reads. Callers keep transactions short and off the
event loop.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import alembic.config
import sqlalchemy
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from nightingale_hub.errors import Unavailable

MIGRATIONS = Path(__file__).parent / "migrations"
RETRY_FOR_S = 15.0
# Serialization failure, deadlock: PostgreSQL asks for the whole transaction again.
# ref: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
RETRIABLE_SQLSTATES = {"40001", "40P01", "55P03"}

T = TypeVar("T")


class Database:
    """A connection pool to the one database, for any thread of this process."""

    def __init__(self, url: str) -> None:
        """Open a pool on *url*; touches the database only when first used."""
        self.url = url
        self._engine = _create_engine(url)
        self._writer = self._engine.execution_options(write=True)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection in one read transaction: a consistent snapshot on SQLite."""
        with self._engine.begin() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection in one write transaction, committed when the block ends well."""
        with self._writer.begin() as conn:
            yield conn

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` from one write transaction, run again whole while others hold it.

        *work* may run several times, so it must do nothing but read and write the database.
        Raises `Unavailable` when the database does not answer within 15 s.
        """
        deadline = time.monotonic() + RETRY_FOR_S
        pause_s = 0.005
        while True:
            try:
                with self.write() as conn:
                    return work(conn)
            except OperationalError as error:
                if not _is_retriable(error):
                    raise
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "the database did not answer for 15 s; try again in a moment"
                    ) from error
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries only
            pause_s = min(pause_s * 2, 0.5)

    def upgrade(self) -> None:
        """Bring the schema to the newest version; safe when several processes start at once."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self.write() as conn:
            if self.dialect == "postgresql":
                # Released at the end of the transaction; any number that is ours alone will do.
                conn.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(7261942)"))
            config.attributes["connection"] = conn
            alembic.command.upgrade(config, "head")

    def dispose(self) -> None:
        """Close the pool's connections."""
        self._engine.dispose()


def _create_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed)
        event.listen(engine, "do_connect", _ensure_private)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, pool_pre_ping=True, pool_size=10)


def _ensure_private(_dialect: Any, _record: Any, arguments: Any, _options: Any) -> None:
    # SQLite would make it readable by all; the files beside it take its mode.
    path = str(arguments[0])
    if path != ":memory:":
        with suppress(OSError):  # what is wrong with the path is for SQLite to say
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # None hands BEGIN to us: the driver's own would take the write lock too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA busy_timeout = 10000")
    # 64 MiB at most; with the default of 2 a large index is read from the file at every insert.
    cursor.execute("PRAGMA cache_size = -65536")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    is_write = conn.get_execution_options().get("write", False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _is_retriable(error: OperationalError) -> bool:
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is not None:
        return sqlstate in RETRIABLE_SQLSTATES
    return "locked" in str(error.orig) or error.connection_invalidated
