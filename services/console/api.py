"""The console's API, for the command line and Lab: a token in a header, JSON both ways.

The server that is meant is the token's own; a person's token may name another of theirs with
`?server=`. What a token may not see does not exist for it.
"""

from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.activity import describe_use
from nightingale_hub.auth import ServiceHandler, parse_int
from nightingale_hub.clock import now_us
from nightingale_hub.datasets import list_granted
from nightingale_hub.errors import NotAllowed, NotFound
from nightingale_hub.instances import find, find_current, get
from nightingale_hub.offers import list_choices
from nightingale_hub.services.console.caller import READ, STOP, Caller
from nightingale_hub.services.console.charges import gather_charges, month_of, parse_month
from nightingale_hub.services.console.parts import Parts
from nightingale_hub.services.console.summary import find_audit, gather_figures
from nightingale_hub.suspensions import find_suspension
from nightingale_hub.tables.instances import instance
from nightingale_hub.terms import find_tariff


class Api(ServiceHandler):
    """A route of the API: *person* asks about their server *server*, which they may read."""

    person: Caller
    server: str

    @property
    def parts(self) -> Parts:
        """The other services."""
        parts: Parts = self.settings["parts"]
        return parts

    async def prepare(self) -> None:
        """Find who asks about which server, by asking the hub anew.

        Raises `NotAllowed` for a token that may not read, `NotFound` for a server not its own.
        """
        self.person = Caller.from_model(await self.caller())
        asked = self.get_query_argument("server", None)
        self.server = self.person.server_name(asked)
        if not self.person.holds(READ, self.person.name, self.server):
            if asked is not None:
                raise NotFound("no such server is yours")
            raise NotAllowed("this token may not read its instance, cost and reads")

    async def find_instance(self) -> Row[Any] | None:
        """Return the server's instance: the one that is not gone, else the last; or None."""
        owner, server = self.person.name, self.server
        return await self.context.read(
            lambda conn: find_current(conn, owner, server) or _find_last(conn, owner, server)
        )


class Status(Api):
    """The instance, its audit and the datasets."""

    async def get(self) -> None:
        """Reply `{"instance", "use", "left", "audit", …, "closed", "missing"}`.

        *closed* is until when and why the datasets are closed, *missing* who is silent.
        """
        owner = self.person.name
        row = await self.find_instance()
        figures = await gather_figures(self.parts, owner, now_us())
        audit = None if row is None else await find_audit(self.parts, figures.missing, row)
        granted, closed = await self.context.read(
            lambda conn: (list_granted(conn, owner), find_suspension(conn, owner, now_us()))
        )
        use = None
        if row is not None and row.gone_us is None:
            instance_id = row.id
            use = await self.context.read(lambda conn: describe_use(conn, instance_id))
        self.reply(
            {
                "instance": None if row is None else figures.summarize(row),
                "use": use,
                "month_micro": figures.month_micro,
                "currency": figures.currency,
                "left": figures.left,
                "audit": audit,
                "datasets": [
                    {
                        "name": each.name,
                        "title": each.title,
                        "description": each.description,
                        "terms": each.terms,
                    }
                    for each in granted
                ],
                "closed": None
                if closed is None
                else {"until_us": closed.until_us, "reason": closed.reason},
                "missing": figures.missing,
            }
        )


class Cost(Api):
    """What the owner was charged."""

    async def get(self) -> None:
        """Reply every line since `?since_us=` (default: this month's start) and their sums."""
        since_us = parse_int(self, "since_us", None)
        self.reply(await gather_charges(self.parts, self.person.name, since_us, now_us()))


class Statement(Api):
    """A month's statement."""

    async def get(self) -> None:
        """Reply billing's statement of `?month=YYYY-MM` (default: this month)."""
        month = parse_month(self.get_query_argument("month", "") or month_of(now_us()))
        owner = self.person.name
        self.reply(await self.parts.get("billing", "statement", owner=owner, month=month))


class Sizes(Api):
    """What can be had, and what it costs."""

    async def get(self) -> None:
        """Reply every size of every resource with its price, and which the instance has."""
        row = await self.find_instance()
        has = row if row is not None and row.gone_us is None else None
        cloud, region = self.context.settings.cloud, self.context.settings.region
        owner, at_us = self.person.name, now_us()
        choices, tariff = await self.context.read(
            lambda conn: (
                list_choices(conn, cloud, region, at_us),
                find_tariff(conn, owner, cloud, region, at_us),
            )
        )
        sizes = [
            {
                "resource": each.resource,
                "size": each.letter,
                "gives": each.gives,
                "nano_per_hour": tariff.rate_sku(each.sku),
                "refusal": each.refusal,
                "is_current": getattr(has, each.resource, None) == each.letter,
            }
            for each in choices
        ]
        self.reply({"cloud": cloud, "region": region, "currency": tariff.currency, "sizes": sizes})


class Reads(Api):
    """What was read, newest first."""

    async def get(self) -> None:
        """Reply audit's page of the owner's reads, by `?dataset=&path=&instance=&before=`."""
        filters = {
            name: self.get_query_argument(name, "") or None
            for name in ("dataset", "path", "instance", "before")
        }
        limit = min(parse_int(self, "limit", 100) or 100, 1000)
        owner = self.person.name
        self.reply(await self.parts.get("audit", "reads", owner=owner, limit=limit, **filters))


class Files(Api):
    """What was read, by file."""

    async def get(self) -> None:
        """Reply audit's page of the files that the owner read; `?dataset=&instance=&after_…=`."""
        names = ("dataset", "instance", "after_dataset", "after_path")
        given = {name: self.get_query_argument(name, "") or None for name in names}
        owner, limit = self.person.name, min(parse_int(self, "limit", 1000) or 1000, 1000)
        self.reply(await self.parts.get("audit", "files", owner=owner, limit=limit, **given))


class Manifest(Api):
    """What a run read, as the log signed it."""

    async def get(self) -> None:
        """Reply audit's manifest of `?instance=` (the server's last), `?pid=&since_us=&until_us=`.

        Raises `NotFound` for what the token may not read, `Unavailable` while reads wait to be
        indexed.
        """
        asked = self.get_query_argument("instance", "")
        if asked:
            row = await self.context.read(lambda conn: find(conn, asked))
        else:
            row = await self.find_instance()
        if row is None or not self.person.may_read(row):
            raise NotFound("no such instance is yours")
        numbers = {name: parse_int(self, name, None) for name in ("pid", "since_us", "until_us")}
        self.reply(await self.parts.get("audit", f"manifests/{row.id}", **numbers))


class Stop(Api):
    """The stop of the instance."""

    async def post(self) -> None:
        """Ask the supervisor for a stop; reply the instance as it then is, with its cost.

        `accepted` is false when the instance was gone already. Raises `NotFound` when the
        server never had one, `NotAllowed` for a token that may not stop it.
        """
        if not self.person.holds(STOP, self.person.name, self.server):
            raise NotAllowed("this token may not stop its instance")
        row = await self.find_instance()
        if row is None:
            raise NotFound("nothing runs here, so nothing was stopped")
        is_running = row.gone_us is None
        if is_running:
            reason = f"{self.person.name} asked for it by token"
            await self.parts.post("supervisor", f"instances/{row.id}/stop", {"reason": reason})
            instance_id = row.id
            row = await self.context.read(lambda conn: get(conn, instance_id))
        figures = await gather_figures(self.parts, self.person.name, now_us())
        self.reply(
            {
                "accepted": is_running,
                "instance": figures.summarize(row),
                "missing": figures.missing,
            }
        )


class NoSuchRoute(ServiceHandler):
    """Everything that the API does not have."""

    def prepare(self) -> None:
        """Refuse; raises `NotFound`."""
        raise NotFound("the console's API has no such route")


def _find_last(conn: Connection, owner: str, server_name: str) -> Row[Any] | None:
    return conn.execute(
        select(instance)
        .where(instance.c.owner == owner, instance.c.server_name == server_name)
        .order_by(instance.c.created_us.desc())
        .limit(1)
    ).one_or_none()
