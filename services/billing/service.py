"""The billing service put together: it loads the price list, then rates what has ended."""

import logging
from functools import partial
from pathlib import Path

from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.billing.api import (
    CostHandler,
    LedgerHandler,
    StatementHandler,
)
from nightingale_hub.services.billing.posting import list_unrated, post_segment
from nightingale_hub.services.billing.prices import LIST, load_prices, parse_prices

log = logging.getLogger("nightingale")
RATE_PAUSE_S = 1.0


def make(context: Context) -> Service:
    """Return the service for *context*."""
    biller = Biller(context)
    return Service(
        routes=[
            (r"api/cost", CostHandler, {}),
            (r"api/statement", StatementHandler, {}),
            (r"api/ledger/check", LedgerHandler, {}),
        ],
        loops=[Loop("bill", RATE_PAUSE_S, biller.step)],
    )


class Biller:
    """The one who posts."""

    def __init__(self, context: Context, price_list: Path = LIST) -> None:
        """Bill what is in *context*'s database, at the prices of *price_list*."""
        self._context = context
        self._price_list = price_list
        self._has_prices = False

    async def step(self) -> None:
        """Load the price list once, then post every segment that ended since the last step."""
        if not self._has_prices:
            await self._load_prices()
        for row in await self._context.read(list_unrated):
            try:
                await self._context.write(partial(post_segment, row=row, at_us=now_us()))
            except (BadInput, Conflict):
                # One transaction a segment: a line that cannot be posted holds back no other.
                log.exception("segment %d of %s is not billed", row.id, row.instance_id)

    async def _load_prices(self) -> None:
        try:
            lines = self._price_list.read_text(encoding="utf-8").splitlines()
            prices = parse_prices(lines)
            added = await self._context.write(lambda conn: load_prices(conn, prices))
            log.info("price list: %d new prices", added)
        except (BadInput, Conflict, OSError, UnicodeDecodeError) as error:
            # The book as it stands holds on; a wrong list changes nothing.
            log.error("the price list was not taken: %s", error)
        self._has_prices = True
