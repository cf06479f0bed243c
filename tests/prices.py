"""A price book of known figures, for tests of what reads it."""

from sqlalchemy import Connection, insert

from nightingale_hub.offers import LETTERS
from nightingale_hub.tables.billing import price

BASE_NANO_USD = {"cpu": 10_000_000, "gpu": 900_000_000, "disk": 500_000}


def add_prices(conn: Connection, effective_us: int = 0, times: int = 1) -> None:
    """Write a price for every size: the base of its resource, doubled from size to size."""
    for resource, letters in LETTERS.items():
        for step, letter in enumerate(letters):
            conn.execute(
                insert(price).values(
                    cloud="local",
                    region="here",
                    sku=f"{resource}.{letter}",
                    nano_per_hour=BASE_NANO_USD[resource] * 2**step * times,
                    effective_us=effective_us,
                    source="test",
                )
            )
