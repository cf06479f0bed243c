"""The loop that keeps grants, holds and invoices up to date, each in a transaction of its own."""

import logging
from collections.abc import Callable
from functools import partial

from nightingale_hub.clock import now_us
from nightingale_hub.errors import NightingaleError
from nightingale_hub.service import Context
from nightingale_hub.services.billing.burning import burn_grants, list_unburned
from nightingale_hub.services.billing.invoices import mark_overdue
from nightingale_hub.services.billing.keeper import keep, list_kept

log = logging.getLogger("nightingale")


class Treasurer:
    """The one who spends credit and keeps limits."""

    def __init__(self, context: Context, clock: Callable[[], int] = now_us) -> None:
        """Work on *context*'s database; *clock* gives µs."""
        self._context = context
        self._clock = clock

    async def step(self) -> None:
        """Let grants pay for what was posted, look after each hold, mark what is overdue."""
        read, write = self._context.read, self._context.write
        for customer_id in await read(list_unburned):
            await write(partial(burn_grants, customer_id=customer_id, at_us=self._clock()))
        for instance_id in await read(list_kept):
            try:
                await write(partial(keep, instance_id=instance_id, at_us=self._clock()))
            except NightingaleError:
                # One that cannot be worked out holds back no other.
                log.exception("the hold of instance %s is not kept", instance_id)
        at_us = self._clock()
        for number in await write(lambda conn: mark_overdue(conn, at_us)):
            log.info("invoice %s is overdue", number)
