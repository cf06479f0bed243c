"""What left for somebody's browser: what their Jupyter tells, beside what the kernel counted.

A researcher owns the process that tells it, so a row here proves nothing by itself. The kernel of
the instance counts what goes to the hub, for root alone (docs/audit-wire.md, `egress`): that sum is
proven as far as the instance's root is. Where both exist they are answered side by side.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Connection, and_, func, select

from nightingale_hub.bulk import insert_rows
from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, TooLarge
from nightingale_hub.services.audit.api import QueryHandler
from nightingale_hub.services.audit.event import ACTIONS
from nightingale_hub.services.audit.search import Filters, columns
from nightingale_hub.services.audit.sender import DRAIN_FOR_US, get_instance
from nightingale_hub.tables.audit import audit_event
from nightingale_hub.tables.decoys import download

MAX_BODY_BYTES = 1 << 20
MOST_BYTES = 2**44
COLUMNS = "instance_id owner run number kind name requests size at_us".split()
Whole = Annotated[int, Meta(ge=0, le=MOST_BYTES)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes of one kind and name that were served between two looks of the agent."""

    number: Annotated[int, Meta(ge=1, lt=2**53)]
    kind: Literal["file", "output", "proxied", "page"]
    name: Annotated[str, Meta(max_length=500)]
    requests: Whole
    size: Whole
    at_us: Annotated[int, Meta(ge=0, lt=2**53)]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent sends."""

    run: Annotated[str, Meta(pattern="^[0-9a-f]{8,64}$")]
    downloads: Annotated[list[Entry], Meta(min_length=1, max_length=500)]


class DownloadsHandler(QueryHandler):
    """POST by an agent: what its server served. GET by the console: what left, and for whom."""

    async def prepare(self) -> None:
        """Let the console ask, and an instance tell; each is checked in its place."""
        if self.request.method != "POST":
            await super().prepare()

    async def post(self) -> None:
        """Take it down, each entry once; reply `{}`. Raises `NotAllowed`, `BadInput`."""
        at_us, credential = now_us(), self.bearer()
        row = await self.context.read(lambda conn: get_instance(conn, credential, at_us))
        if len(self.request.body) > MAX_BODY_BYTES:
            raise TooLarge("what was served is told in at most 1 MiB at once")
        try:
            told = msgspec.json.decode(self.request.body, type=Told)
        except ValueError as error:  # msgspec's errors, and text that is not UTF-8
            raise BadInput(f"what was served is malformed: {str(error)[:200]}") from error
        await self.context.write(lambda conn: record(conn, row.id, row.owner, told, at_us))
        self.reply({})

    async def get(self) -> None:
        """Reply `{"told", "counted_bytes", "downloads": [...]}`, the largest first."""
        values = self.parse_query("owner", "instance", "since_us", "until_us", "limit")
        if "owner" not in values and "instance" not in values:
            raise BadInput("name the owner or the instance")
        limit, filters = self.parse_limit(), await self.parse_filters(values)
        self.reply(await self.context.read(lambda conn: describe(conn, filters, limit)))


def record(conn: Connection, instance_id: str, owner: str, told: Told, at_us: int) -> None:
    """Write down what an instance told at *at_us*; what was told before changes nothing."""
    rows = [
        (
            instance_id, owner, told.run, each.number, each.kind, each.name.replace("\0", ""),
            each.requests, each.size, min(max(each.at_us, at_us - DRAIN_FOR_US), at_us),
        )
        for each in told.downloads
    ]  # fmt: skip
    insert_rows(conn, download, COLUMNS, rows, skip_known="instance_id, run, number")


def describe(conn: Connection, filters: Filters, limit: int) -> dict[str, Any]:
    """Return what left, told by kind and name, and what the kernel counted (None: it did not)."""
    matched = _match(filters)
    totals = (func.sum(download.c.requests).label("requests"), func.sum(download.c.size))
    kinds = conn.execute(
        select(download.c.kind, totals[0], totals[1].label("bytes"))
        .where(matched)
        .group_by(download.c.kind)
    ).all()
    size = totals[1].label("bytes")
    names = select(
        download.c.kind,
        download.c.name,
        totals[0],
        size,
        func.max(download.c.at_us).label("last_us"),
    ).where(matched, download.c.kind != "page")
    names = names.group_by(download.c.kind, download.c.name)
    named = conn.execute(names.order_by(size.desc(), download.c.name).limit(limit)).all()
    return {
        "told": {
            row.kind: {"requests": int(row.requests), "bytes": int(row.bytes)} for row in kinds
        },
        "counted_bytes": count_sent(conn, filters),
        "downloads": [
            {**row._mapping, "requests": int(row.requests), "bytes": int(row.bytes)}
            for row in named
        ],
    }


def count_sent(conn: Connection, filters: Filters) -> int | None:
    """Return the bytes that the kernel saw go to the hub, or None where it did not count."""
    end = columns.start + columns.length
    of_hub = Filters(
        owner=filters.owner, instance=filters.instance, dataset="", path="hub",
        since_us=filters.since_us, until_us=filters.until_us,
    )  # fmt: skip
    # A part may be recorded twice, under the same place in the sum: the sum is where it ends.
    sums = (
        select((func.max(end) - func.min(columns.start)).label("sent"))
        .where(of_hub.condition(), columns.action == ACTIONS.index("egress"))
        .group_by(audit_event.c.source)
        .subquery()
    )
    total = conn.execute(select(func.sum(sums.c.sent))).scalar_one()
    return None if total is None else int(total)


def _match(filters: Filters) -> ColumnElement[bool]:
    terms: list[ColumnElement[bool]] = []
    if filters.owner is not None:
        terms.append(download.c.owner == filters.owner)
    if filters.instance is not None:
        terms.append(download.c.instance_id == filters.instance)
    if filters.since_us is not None:
        terms.append(download.c.at_us >= filters.since_us)
    if filters.until_us is not None:
        terms.append(download.c.at_us < filters.until_us)
    return and_(True, *terms)
