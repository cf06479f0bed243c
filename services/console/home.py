"""A researcher's own page: instances with their cost, datasets, latest reads."""

import asyncio
from typing import Any

from nightingale_hub.clock import now_us
from nightingale_hub.datasets import list_granted
from nightingale_hub.instances import ENDED, State, list_for, list_progress
from nightingale_hub.services.console.page import Page
from nightingale_hub.services.console.summary import gather_figures, recent
from nightingale_hub.suspensions import find_suspension

STOPPED_SHOWN = 5
PROGRESS_SHOWN = 6
READS_SHOWN = 10


class Figures(Page):
    """What changes by the second, asked again by the page's script."""

    sends_to_login = False

    async def get(self) -> None:
        """Show instances, their progress and the month's total."""
        self.show("_instances.html", **await self.gather())

    async def gather(self) -> dict[str, Any]:
        """Return the reader's instances with their figures, and as of when."""
        at_us = now_us()
        owner = self.person.name
        rows, figures = await asyncio.gather(
            self.context.read(lambda conn: recent(list_for(conn, owner), STOPPED_SHOWN)),
            gather_figures(self.parts, owner, at_us),
        )
        moving = [row.id for row in rows if row.actual not in (State.RUNNING, *ENDED)]
        progress = await self.context.read(
            lambda conn: {each: list_progress(conn, each)[-PROGRESS_SHOWN:] for each in moving}
        )
        return {
            "instances": [figures.summarize(row) for row in rows],
            "progress": progress,
            "month_micro": figures.month_micro,
            "currency": figures.currency,
            "left": figures.left,
            "missing": figures.missing,
            "at_us": at_us,
        }


class Home(Figures):
    """The whole page."""

    sends_to_login = True

    async def get(self) -> None:
        """Show the figures, the datasets that the reader may mount, and their latest reads."""
        owner = self.person.name
        missing: list[str] = []
        values, (datasets, closed), reads = await asyncio.gather(
            self.gather(),
            self.context.read(
                lambda conn: (list_granted(conn, owner), find_suspension(conn, owner, now_us()))
            ),
            self.parts.find(missing, "audit", "reads", owner=owner, limit=READS_SHOWN),
        )
        self.show(
            "home.html",
            **values,
            datasets=datasets,
            closed=closed,
            reads=None if reads is None else reads["reads"],
            reads_missing=missing,
        )
