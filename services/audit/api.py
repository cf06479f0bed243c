"""What the console may ask: events, their sums, and how far a stream has come.

Only services ask here, and they vouch for whom they ask. A parameter that is misspelt, empty or
given twice is refused: dropping a filter would show what was not asked for.
"""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from nightingale_hub.auth import ServiceHandler, parse_int
from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.services.audit import search, stream
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.log import LogSigner
from nightingale_hub.services.audit.manifest import make_manifest
from nightingale_hub.services.audit.projects import list_memberships
from nightingale_hub.services.audit.search import Filters

CALLERS = ("console",)
TEXTS = ("owner", "dataset", "path", "instance", "executable")
FILTERS = (*TEXTS, "project")
NUMBERS = ("pid", "since_us", "until_us")


class QueryHandler(ServiceHandler):
    """A GET with filters, for services only."""

    async def prepare(self) -> None:
        """Refuse everyone else."""
        await self.require_service(*CALLERS)

    def parse_query(self, *allowed: str) -> dict[str, str]:
        """Return the query's text arguments, of which only *allowed* may be there."""
        values = {}
        for name, given in self.request.query_arguments.items():
            if name not in allowed:
                raise BadInput(f"unknown parameter {name[:40]!r}; known: {', '.join(allowed)}")
            if len(given) != 1:
                raise BadInput(f"{name} is given more than once")
            try:
                text = given[0].decode()
            except UnicodeDecodeError as error:
                raise BadInput(f"{name} is not UTF-8") from error
            if not text or "\0" in text:
                raise BadInput(f"{name} is empty or holds NUL; leave it out instead")
            values[name] = text
        return values

    def parse_limit(self) -> int:
        """Return the query's limit; raises `BadInput` when it is out of bounds."""
        limit = parse_int(self, "limit", search.DEFAULT_LIMIT)
        if limit is None or not 1 <= limit <= search.MAX_LIMIT:
            raise BadInput(f"limit must be from 1 to {search.MAX_LIMIT}")
        return limit

    async def parse_filters(self, values: dict[str, str]) -> Filters:
        """Return the filters that *values* of the query are; `project` is its members' spans."""
        given: dict[str, Any] = {name: values.get(name) for name in TEXTS}
        given |= {name: parse_int(self, name, None) for name in NUMBERS}
        if "project" in values:
            name = values["project"]
            given["project"] = await self.context.read(lambda conn: list_memberships(conn, name))
        return Filters(**given)


class HistoryHandler(QueryHandler):
    """A question about reads, hot and cold."""

    def initialize(self, history: History) -> None:
        """Ask *history*."""
        self.history = history


class ReadsHandler(HistoryHandler):
    """GET reads: events, newest first, a page at a time."""

    async def get(self) -> None:
        """Reply `{"reads": [...], "next": cursor or null}`."""
        values = self.parse_query(*FILTERS, *NUMBERS, "limit", "before")
        limit, filters = self.parse_limit(), await self.parse_filters(values)
        before = search.parse_cursor(values["before"]) if "before" in values else None
        rows, following = await self.context.read(
            lambda conn: self.history.list_events(conn, filters, limit, before)
        )
        self.reply({"reads": rows, "next": following})


class ReadersHandler(HistoryHandler):
    """GET readers: who read a file, or files, of a dataset."""

    async def get(self) -> None:
        """Reply `{"readers": [{"owner", "opens", "reads", "bytes", "first_us", "last_us"}]}`."""
        values = self.parse_query(*FILTERS, *NUMBERS)
        if "path" not in values or "dataset" not in values:
            raise BadInput("name the dataset and the path of the file")
        filters = await self.parse_filters(values)
        found = await self.context.read(lambda conn: self.history.list_readers(conn, filters))
        self.reply({"readers": found})


class FilesHandler(HistoryHandler):
    """GET files: which files a person, an instance or a process read, a page at a time."""

    async def get(self) -> None:
        """Reply `{"files": [{"dataset", "path", "opens", …}], "next": [dataset, path] or null}`."""
        values = self.parse_query(*FILTERS, *NUMBERS, "limit", "after_dataset", "after_path")
        if "owner" not in values and "instance" not in values:
            raise BadInput("name the owner or the instance")
        limit, filters = self.parse_limit(), await self.parse_filters(values)
        after = None
        if "after_path" in values:
            after = (values.get("after_dataset", ""), values["after_path"])
        found = await self.context.read(
            lambda conn: self.history.list_files(conn, filters, limit, after)
        )
        last = found[-1] if len(found) == limit else None
        following = last and [last["dataset"], last["path"]]
        self.reply({"files": found, "next": following})


class ManifestHandler(HistoryHandler):
    """GET manifests/<instance id>: what a run read, signed by the log's key."""

    def initialize(  # type: ignore[override]  # tornado calls it with what the route has
        self, history: History, signer: LogSigner
    ) -> None:
        """Ask *history*, and sign with *signer*."""
        super().initialize(history)
        self._signer = signer

    async def get(self, instance_id: str) -> None:
        """Reply `{"manifest": {...}, "note": text}`; `pid`, `since_us`, `until_us` narrow it."""
        values, at_us = self.parse_query(*NUMBERS), now_us()
        filters = replace(await self.parse_filters(values), instance=instance_id)
        self.reply(
            await self.context.read(
                lambda conn: make_manifest(conn, self.history, self._signer, filters, at_us)
            )
        )


class SummaryHandler(HistoryHandler):
    """GET summary: what an owner or an instance read in all."""

    async def get(self) -> None:
        """Reply `{"files", "opens", "reads", "bytes", "last_us"}`."""
        values = self.parse_query("owner", "instance")
        filters = Filters(owner=values.get("owner"), instance=values.get("instance"))
        self.reply(await self.context.read(lambda conn: self.history.summarise(conn, filters)))


class StreamHandler(QueryHandler):
    """GET streams/<stream id>: how far it is stored and indexed."""

    async def get(self, stream_id: str) -> None:
        """Reply `{"last_seq", "indexed_seq"}`."""
        self.parse_query()
        stream.parse_stream_id(stream_id)

        def work(conn: Connection) -> dict[str, int]:
            found = stream.find(conn, stream_id)
            if found is None:
                raise NotFound(f"no audit stream {stream_id}; nothing was read there yet")
            return {
                "last_seq": found.last_seq,
                "indexed_seq": stream.get_indexed_seq(conn, found),
            }

        self.reply(await self.context.read(work))
