"""What the console may ask: events, their sums, and how far a stream has come.

Only services ask here, and they vouch for whom they ask. A parameter that is misspelt, empty or
given twice is refused: dropping a filter would show what was not asked for.
"""

from sqlalchemy import Connection

from nightingale_hub.auth import ServiceHandler, parse_int
from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.services.audit import search, stream
from nightingale_hub.services.audit.search import Filters

CALLERS = ("console",)


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


class ReadsHandler(QueryHandler):
    """GET reads: events, newest first, a page at a time."""

    async def get(self) -> None:
        """Reply `{"reads": [...], "next": cursor or null}`."""
        values = self.parse_query(
            "owner", "dataset", "path", "instance", "since_us", "until_us", "limit", "before"
        )
        limit = parse_int(self, "limit", search.DEFAULT_LIMIT)
        if limit is None or not 1 <= limit <= search.MAX_LIMIT:
            raise BadInput(f"limit must be from 1 to {search.MAX_LIMIT}")
        before = search.parse_cursor(values["before"]) if "before" in values else None
        filters = Filters(
            owner=values.get("owner"),
            dataset=values.get("dataset"),
            path=values.get("path"),
            instance=values.get("instance"),
            since_us=parse_int(self, "since_us", None),
            until_us=parse_int(self, "until_us", None),
        )
        rows, following = await self.context.read(
            lambda conn: search.list_events(conn, filters, limit, before)
        )
        self.reply({"reads": [dict(row._mapping) for row in rows], "next": following})


class SummaryHandler(QueryHandler):
    """GET summary: what an owner or an instance read in all."""

    async def get(self) -> None:
        """Reply `{"files", "opens", "reads", "bytes", "last_us"}`."""
        values = self.parse_query("owner", "instance")
        filters = Filters(owner=values.get("owner"), instance=values.get("instance"))
        self.reply(await self.context.read(lambda conn: search.summarise(conn, filters)))


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
