"""The price book: read from text, exactly, and never changed once it is in force.

A price is a decimal number of a currency's units; nothing on its way to an integer is a float.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.services.billing.currency import check_currency
from nightingale_hub.services.billing.rating import Steps
from nightingale_hub.tables.billing import price

LIST = Path(__file__).parent / "prices.csv"
# What the clouds ask, as far as a public source with a date says so; each row names its source.
CLOUD_LIST = LIST.with_name("cloud_prices.csv")
# A cloud changes its prices a few times a year.
STALE_AFTER_US = 180 * 86_400 * US_PER_S
COLUMNS = ["cloud", "region", "sku", "currency", "per_hour", "effective", "source"]
NANO_PER_UNIT = 10**9
# A rate above this is a slip of the pen: the dearest instance on offer costs about $100 an hour.
MAX_NANO_PER_HOUR = 100_000 * NANO_PER_UNIT
MAX_LIST_BYTES = 4 << 20
_RATE = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?Z)?", re.ASCII)


@dataclass(frozen=True)
class Price:
    """What one SKU costs from an instant on, where."""

    cloud: str
    region: str
    sku: str
    currency: str
    nano_per_hour: int
    effective_us: int
    source: str


def parse_prices(lines: Iterable[str]) -> list[Price]:
    """Return the prices in CSV *lines*; raises `BadInput` naming the first line that is wrong."""
    reader = csv.DictReader(lines)
    if reader.fieldnames != COLUMNS:
        raise BadInput(f"a price list has the columns {','.join(COLUMNS)}")
    prices: dict[tuple[str, str, str, str, int], Price] = {}
    for number, row in enumerate(reader, start=2):
        try:
            if None in row or None in row.values():
                raise BadInput("wrong number of columns")
            parsed = Price(
                cloud=row["cloud"],
                region=row["region"],
                sku=row["sku"],
                currency=check_currency(row["currency"]),
                nano_per_hour=parse_rate(row["per_hour"]),
                effective_us=parse_instant(row["effective"]),
                source=row["source"],
            )
            key = (parsed.cloud, parsed.region, parsed.sku, parsed.currency, parsed.effective_us)
            if not all((parsed.cloud, parsed.region, parsed.sku, parsed.source)):
                raise BadInput("a column is empty")
            if key in prices:
                raise BadInput(f"{parsed.sku} has two prices from {row['effective']}")
        except BadInput as error:
            raise BadInput(f"price list, line {number}: {error}") from error
        prices[key] = parsed
    return list(prices.values())


def parse_rate(text: str) -> int:
    """Return the price per hour in *text* as nano-units, exactly; raises `BadInput`."""
    # Decimal also reads 1e3, 1_0, NaN and other scripts' digits: none of them is a price here.
    if not _RATE.fullmatch(text):
        raise BadInput(
            f"{text[:40]!r} is no price: write an amount per hour, 0 or more, at most nine decimals"
        )
    nano = Decimal(text) * NANO_PER_UNIT
    if nano > MAX_NANO_PER_HOUR:
        raise BadInput(f"{text[:40]!r} is out of range for a price per hour")
    assert nano == int(nano), text
    return int(nano)


def parse_instant(text: str) -> int:
    """Return the UTC date or time in *text* (`2026-01-31`, `2026-01-31T10:00:00.5Z`) in µs.

    Raises `BadInput`.
    """
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError("another form")
        moment = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInput(
            f"{text[:40]!r} is no date such as 2026-01-31 or 2026-01-31T10:00:00Z"
        ) from error
    return int(moment.replace(microsecond=0).timestamp()) * US_PER_S + moment.microsecond


def load_prices(conn: Connection, prices: Iterable[Price], at_us: int) -> int:
    """Write the prices that are not in the book yet and return how many those were.

    A price holds from its date, and not before *at_us*. Raises `Conflict`, changing nothing, when
    one is there for the same date with another figure: a price that was in force is history.
    """
    added = []
    for each in prices:
        known = conn.execute(
            select(price.c.nano_per_hour).where(
                price.c.cloud == each.cloud,
                price.c.region == each.region,
                price.c.sku == each.sku,
                price.c.currency == each.currency,
                price.c.effective_us == each.effective_us,
            )
        ).scalar_one_or_none()
        if known is None:
            added.append({**asdict(each), "published_us": at_us})
        elif known != each.nano_per_hour:
            raise Conflict(
                f"the price of {each.sku} on {each.cloud} {each.region} is already "
                f"{known} nano-{each.currency}/h from that date; give the new one a later date"
            )
    if added:
        conn.execute(insert(price), added)
    return len(added)


def list_stale(conn: Connection, at_us: int) -> list[Row[Any]]:
    """Return what a cloud sells at a price that nobody has looked up for half a year.

    One row per cloud and region: how many of its prices in force are so old, and the oldest's date.
    """
    newest = (
        select(price.c.cloud, price.c.region, func.max(price.c.effective_us).label("since_us"))
        .where(price.c.sku.startswith("type."), price.c.effective_us <= at_us)
        .group_by(price.c.cloud, price.c.region, price.c.sku, price.c.currency)
        .subquery()
    )
    return list(
        conn.execute(
            select(
                newest.c.cloud,
                newest.c.region,
                func.count().label("prices"),
                func.min(newest.c.since_us).label("oldest_us"),
            )
            .where(newest.c.since_us < at_us - STALE_AFTER_US)
            .group_by(newest.c.cloud, newest.c.region)
            .order_by(newest.c.cloud, newest.c.region)
        )
    )


def find_steps(
    conn: Connection, cloud: str, region: str, skus: Sequence[str], currency: str
) -> Steps:
    """Return what *skus* cost together and from when each sum holds, in order.

    The first holds as long ago as anyone asks. Raises `NotFound` for a SKU without a price.
    """
    rows = conn.execute(
        select(price.c.sku, price.c.effective_us, price.c.published_us, price.c.nano_per_hour)
        .where(
            price.c.cloud == cloud,
            price.c.region == region,
            price.c.currency == currency,
            price.c.sku.in_(skus),
        )
        .order_by(price.c.effective_us)
    ).all()
    by_sku = {sku: [row for row in rows if row.sku == sku] for sku in skus}
    for sku, known in by_sku.items():
        if not known:
            raise NotFound(f"{sku} on {cloud} {region} has no price in {currency}")
    changes = {max(row.effective_us, row.published_us) for row in rows}
    steps: list[tuple[int, int]] = []
    for at_us in (0, *sorted(changes)):
        nano = 0
        for known in by_sku.values():
            nano += _find_in_force(known, at_us)
        if not steps or steps[-1][1] != nano:
            steps.append((at_us, nano))
    return steps


def _find_in_force(rows: Sequence[Any], at_us: int) -> int:
    in_force = [row for row in rows if max(row.effective_us, row.published_us) <= at_us]
    return int((in_force or rows[:1])[-1].nano_per_hour)
