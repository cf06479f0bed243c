"""The instance record as the hub process reaches it: off its event loop, errors named.

One pool of connections for all spawners of a hub. A database that is down is an `Unavailable`,
whatever its driver calls it.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.database import Database
from nightingale_hub.errors import Unavailable

T = TypeVar("T")


class Record:
    """The database, as one short transaction at a time."""

    def __init__(self, url: str) -> None:
        """Take the database at *url*; connects when first used."""
        self._db = _open(url)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` from a read transaction; raises `Unavailable` without a database."""

        def run() -> T:
            with self._db.read() as conn:
                return work(conn)

        return await _in_thread(run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` from a write transaction; *work* may run more than once.

        Raises `Unavailable` without a database.
        """
        return await _in_thread(lambda: self._db.transact(work))


async def _in_thread(run: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(run)
    except SQLAlchemyError as error:
        raise Unavailable(
            "the hub's database does not answer; try again in a moment, or tell your admin"
        ) from error


@cache
def _open(url: str) -> Database:
    return Database(url)
