"""Everyone's instances, for the hub's admins."""

import asyncio
from typing import Any

from nightingale_hub.clock import now_us
from nightingale_hub.instances import list_for, list_unsettled
from nightingale_hub.orphans import list_orphans
from nightingale_hub.services.console.page import AdminPage
from nightingale_hub.services.console.summary import (
    Figures,
    gather_figures,
    merge_missing,
)

RECENT_SHOWN = 50
OWNERS_AT_ONCE = 8


class Fleet(AdminPage):
    """What changes by the second, asked again by the page's script."""

    sends_to_login = False

    async def get(self) -> None:
        """Show every instance with owner, state, cost, health and reason."""
        self.show("_fleet.html", **await self.gather())

    async def gather(self) -> dict[str, Any]:
        """Return all instances that are not gone, then the newest that are."""
        at_us = now_us()
        unsettled, newest, orphans = await self.context.read(
            lambda conn: (
                list_unsettled(conn),
                list_for(conn, None, RECENT_SHOWN),
                list_orphans(conn),
            )
        )
        gone = [row for row in newest if row.gone_us is not None]
        rows = [*reversed(unsettled), *gone]
        figures = await self._gather_figures({row.owner for row in rows}, at_us)
        return {
            "instances": [figures[row.owner].summarize(row) for row in rows],
            "orphans": orphans,
            "missing": merge_missing(figures.values()),
            "at_us": at_us,
        }

    async def _gather_figures(self, owners: set[str], at_us: int) -> dict[str, Figures]:
        gate = asyncio.Semaphore(OWNERS_AT_ONCE)

        async def gather_one(owner: str) -> tuple[str, Figures]:
            async with gate:
                return owner, await gather_figures(self.parts, owner, at_us)

        return dict(await asyncio.gather(*map(gather_one, sorted(owners))))


class Admin(Fleet):
    """The whole page."""

    sends_to_login = True

    async def get(self) -> None:
        """Show the fleet."""
        self.show("admin.html", **await self.gather())
