"""The price book: read from text, exactly, and never changed once it is in force.

A price is a decimal number of dollars; nothing on its way to an integer is a float.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Connection, insert, select

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.tables.billing import price

LIST = Path(__file__).parent / "prices.csv"
COLUMNS = ["cloud", "region", "sku", "usd_per_hour", "effective", "source"]
NANO_PER_USD = 10**9
# A rate above this is a slip of the pen: the dearest instance on offer costs about $100 an hour.
MAX_NANO_USD_PER_HOUR = 100_000 * NANO_PER_USD
_RATE = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Price:
    """What one SKU costs from an instant on, where."""

    cloud: str
    region: str
    sku: str
    nano_usd_per_hour: int
    effective_us: int
    source: str


def parse_prices(lines: Iterable[str]) -> list[Price]:
    """Return the prices in CSV *lines*; raises `BadInput` naming the first line that is wrong."""
    reader = csv.DictReader(lines)
    if reader.fieldnames != COLUMNS:
        raise BadInput(f"a price list has the columns {','.join(COLUMNS)}")
    prices: dict[tuple[str, str, str, int], Price] = {}
    for number, row in enumerate(reader, start=2):
        try:
            if None in row or None in row.values():
                raise BadInput("wrong number of columns")
            parsed = Price(
                cloud=row["cloud"],
                region=row["region"],
                sku=row["sku"],
                nano_usd_per_hour=parse_rate(row["usd_per_hour"]),
                effective_us=_parse_date(row["effective"]),
                source=row["source"],
            )
            key = (parsed.cloud, parsed.region, parsed.sku, parsed.effective_us)
            if not all((parsed.cloud, parsed.region, parsed.sku, parsed.source)):
                raise BadInput("a column is empty")
            if key in prices:
                raise BadInput(f"{parsed.sku} has two prices from {row['effective']}")
        except BadInput as error:
            raise BadInput(f"price list, line {number}: {error}") from error
        prices[key] = parsed
    return list(prices.values())


def parse_rate(text: str) -> int:
    """Return the dollars per hour in *text* as nano-dollars, exactly; raises `BadInput`."""
    # Decimal also reads 1e3, 1_0, NaN and other scripts' digits: none of them is a price here.
    if not _RATE.fullmatch(text):
        raise BadInput(
            f"{text[:40]!r} is no price: write dollars per hour, 0 or more, at most nine decimals"
        )
    nano = Decimal(text) * NANO_PER_USD
    if nano > MAX_NANO_USD_PER_HOUR:
        raise BadInput(f"{text[:40]!r} is out of range for a price in dollars per hour")
    assert nano == int(nano), text
    return int(nano)


def load_prices(conn: Connection, prices: Iterable[Price]) -> int:
    """Write the prices that are not in the book yet and return how many those were.

    Raises `Conflict`, changing nothing, when one is there for the same date with another figure:
    a price that was in force is history.
    """
    added = []
    for each in prices:
        known = conn.execute(
            select(price.c.nano_usd_per_hour).where(
                price.c.cloud == each.cloud,
                price.c.region == each.region,
                price.c.sku == each.sku,
                price.c.effective_us == each.effective_us,
            )
        ).scalar_one_or_none()
        if known is None:
            added.append(asdict(each))
        elif known != each.nano_usd_per_hour:
            raise Conflict(
                f"the price of {each.sku} on {each.cloud} {each.region} is already "
                f"{known} nano-USD/h from that date; give the new one a later date"
            )
    if added:
        conn.execute(insert(price), added)
    return len(added)


def _parse_date(text: str) -> int:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInput(f"{text[:40]!r} is no date such as 2026-01-31") from error
    return int(day.timestamp()) * US_PER_S
