"""The one who bills: loads the price list once, then posts what ended, every second."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from nightingale_hub.clock import US_PER_S, month_bounds_us, now_us, to_datetime
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.service import Context
from nightingale_hub.services.billing.lines import Usage
from nightingale_hub.services.billing.posting import (
    list_long,
    list_uncredited,
    list_unrated,
    post_credit,
    post_segments,
)
from nightingale_hub.services.billing.prices import (
    CLOUD_LIST,
    LIST,
    Price,
    list_stale,
    load_prices,
    parse_prices,
)

BATCH = 2000
# Every segment is looked at this often; in between only those that ended within the last day.
SWEEP_US = 600 * US_PER_S
RECENT_US = 86_400 * US_PER_S

log = logging.getLogger("nightingale")


class Biller:
    """Posts in transactions of its own, so that what cannot be posted holds back nothing else."""

    def __init__(
        self, context: Context, price_list: Path = LIST, clock: Callable[[], int] = now_us
    ) -> None:
        """Bill what is in *context*'s database, at the prices of *price_list*."""
        self._context = context
        self._price_list = price_list
        self._clock = clock
        self._has_prices = False
        self._swept_us: int | None = None

    async def step(self) -> None:
        """Post every segment that ended since the last step, and every credit that is due."""
        if not self._has_prices:
            await self._load_prices()
        at_us = self._clock()
        is_sweep = self._swept_us is None or at_us - self._swept_us >= SWEEP_US
        since_us = 0 if is_sweep else at_us - RECENT_US
        await self._post_all(partial(list_unrated, since_us=since_us))
        if is_sweep:
            month_us, _ = month_bounds_us(to_datetime(at_us).strftime("%Y-%m"))
            await self._post_all(partial(list_long, month_us=month_us))
            self._swept_us = at_us
        for row in await self._context.read(list_uncredited):
            try:
                await self._context.write(
                    partial(
                        post_credit, segment_id=row.id, fault_id=row.fault_id, at_us=self._clock()
                    )
                )
            except (BadInput, Conflict, NotFound):
                log.exception("fault %d is not credited", row.fault_id)

    async def _post_all(self, find: Callable[..., list[Usage]]) -> None:
        after_id = 0
        while rows := await self._context.read(partial(find, after_id=after_id, limit=BATCH)):
            after_id = rows[-1].id
            try:
                await self._post(rows)
            except (BadInput, Conflict, NotFound):
                for row in rows:
                    await self._post_one(row)

    async def _post_one(self, row: Usage) -> None:
        try:
            await self._post([row])
        except (BadInput, Conflict, NotFound):
            log.exception("segment %d of %s is not billed", row.id, row.instance_id)

    async def _post(self, rows: list[Usage]) -> None:
        at_us = self._clock()
        await self._context.write(lambda conn: post_segments(conn, rows, at_us))

    def _list_cloud_prices(self) -> list[Price]:
        """Return the prices of the clouds that the operator set; those of others say nothing."""
        lines = CLOUD_LIST.read_text(encoding="utf-8").splitlines()
        clouds = self._context.settings.clouds
        return [each for each in parse_prices(lines) if each.cloud in clouds]

    async def _load_prices(self) -> None:
        try:
            lines = self._price_list.read_text(encoding="utf-8").splitlines()
            prices = [*parse_prices(lines), *self._list_cloud_prices()]
            added = await self._context.write(lambda conn: load_prices(conn, prices, self._clock()))
            log.info("price list: %d new prices", added)
            for each in await self._context.read(lambda conn: list_stale(conn, self._clock())):
                log.warning(
                    "%d prices of %s %s were looked up half a year ago or longer; "
                    "see nightingale admin prices refresh",
                    *(each.prices, each.cloud, each.region),
                )
        except (BadInput, Conflict, OSError, UnicodeDecodeError) as error:
            # The book as it stands holds on; a wrong list changes nothing.
            log.error("the price list was not taken: %s", error)
        self._has_prices = True
