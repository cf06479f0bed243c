"""The hot index and the cold parts as one: every question over both, each event once.

The parts are named before and after the hot index is asked: what moved meanwhile is asked anew.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection

from nightingale_hub.errors import Unavailable
from nightingale_hub.services.audit import questions, search
from nightingale_hub.services.audit.archive import Archive, Parts, list_parts
from nightingale_hub.services.audit.search import Cursor, Filters

T = TypeVar("T")
Object = dict[str, Any]
TRIES = 5


class History:
    """All events of one hub."""

    def __init__(self, archive: Archive) -> None:
        """Ask the database for what is hot, and *archive* for the rest."""
        self._archive = archive

    def list_events(
        self, conn: Connection, filters: Filters, limit: int, before: Cursor | None
    ) -> tuple[list[Object], str | None]:
        """Return at most *limit* events, newest first, and the cursor of the next page or None."""
        hot, parts = _settle(
            conn, filters, lambda: search.list_rows(conn, filters, limit + 1, before)
        )
        if len(hot) > limit:
            parts = parts.until(hot[-1]["at_us"])
        cold = self._archive.list_events(parts, filters, limit + 1, before)
        rows = sorted([*hot, *cold], key=_place, reverse=True)[: limit + 1]
        following = None
        if len(rows) > limit:
            following = search.format_cursor(*_place(rows[limit - 1]))
        return [_without(row, "source") for row in rows[:limit]], following

    def list_readers(self, conn: Connection, filters: Filters) -> list[Object]:
        """Return who read what *filters* name, how often and how much, the last reader first."""
        hot, parts = _settle(conn, filters, lambda: questions.list_readers(conn, filters))
        rows = _join([*hot, *self._archive.list_readers(parts, filters)], ("owner",))
        return sorted(rows, key=lambda row: (-row["last_us"], row["owner"]))

    def list_files(
        self, conn: Connection, filters: Filters, limit: int, after: tuple[str, str] | None
    ) -> list[Object]:
        """Return at most *limit* files that were read as *filters* say, by dataset and path."""
        hot, parts = _settle(
            conn, filters, lambda: questions.list_files(conn, filters, limit, after)
        )
        cold = self._archive.list_files(parts, filters, limit, after)
        key = ("dataset", "path")
        rows = sorted(_join([*hot, *cold], key), key=lambda row: (row["dataset"], row["path"]))
        return rows[:limit]

    def summarise(self, conn: Connection, filters: Filters) -> Object:
        """Return how many files were opened, how often, how much was read, and when last."""
        hot, parts = _settle(conn, filters, lambda: search.summarise(conn, filters))
        if not parts.rows:
            return hot
        files = [each for each in self.list_all_files(conn, filters) if each["opens"]]
        readers = self._archive.list_readers(parts, filters)
        lasts = [row["last_us"] for row in (hot, *readers) if row["last_us"] is not None]
        return {
            "files": len(files),
            "opens": hot["opens"] + sum(row["opens"] for row in readers),
            "reads": hot["reads"] + sum(row["reads"] for row in readers),
            "bytes": hot["bytes"] + sum(row["bytes"] for row in readers),
            "last_us": max(lasts, default=None),
        }

    def list_record(self, conn: Connection, filters: Filters) -> list[Object]:
        """Return a row for each person and path of a dataset, by name."""
        hot, parts = _settle(conn, filters, lambda: questions.list_record(conn, filters))
        rows = _join([*hot, *self._archive.list_record(parts, filters)], ("owner", "path"))
        return sorted(rows, key=lambda row: (row["owner"], row["path"]))

    def list_all_files(self, conn: Connection, filters: Filters) -> list[Object]:
        """Return every file that `list_files` does, page by page."""
        files: list[Object] = []
        after: tuple[str, str] | None = None
        while page := self.list_files(conn, filters, search.MAX_LIMIT, after):
            files += page
            after = (page[-1]["dataset"], page[-1]["path"])
        return files


def _settle(conn: Connection, filters: Filters, ask: Callable[[], T]) -> tuple[T, Parts]:
    """Return what *ask* says of the hot index, and the parts that go with just that."""
    parts = list_parts(conn, filters)
    for _ in range(TRIES):
        found = ask()
        before, parts = parts, list_parts(conn, filters)
        if before == parts:
            return found, parts
    raise Unavailable("old reads are being moved; ask again in a moment")


def _join(rows: list[Object], names: tuple[str, ...]) -> list[Object]:
    """Return one row for each value of *names*: counts added up, times widened."""
    joined: dict[tuple[Any, ...], Object] = {}
    for row in rows:
        known = joined.setdefault(tuple(row[name] for name in names), row)
        if known is row:
            continue
        for name, value in row.items():
            if name == "first_us":
                known[name] = min(known[name], value)
            elif name == "last_us":
                known[name] = max(known[name], value)
            elif name not in names:
                known[name] += value
    return list(joined.values())


def _place(row: Object) -> tuple[int, int, int]:
    return row["at_us"], row["source"], row["seq"]


def _without(row: Object, name: str) -> Object:
    return {key: value for key, value in row.items() if key != name}
