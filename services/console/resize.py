"""Where a browser waits while its server is resized: how far it is, then back to JupyterLab.

Lab hands its page over before the server ends, so that no dialog of a lost server appears.
"""

from nightingale_hub.clock import now_us
from nightingale_hub.instances import find_current, list_progress
from nightingale_hub.resizing import find_last
from nightingale_hub.services.console.page import Page

LINES_SHOWN = 8


class Resize(Page):
    """The whole page; its script asks `resize/live` and follows where that leads."""

    async def get(self) -> None:
        """Show the newest resize of the reader's `?server=`."""
        await self.show_resize("resize.html")

    async def show_resize(self, template: str) -> None:
        """Show *template* of how far it is; `is_over` once the server can be opened again."""
        owner, server = self.person.name, self.get_query_argument("server", "")
        row = await self.context.read(lambda conn: find_current(conn, owner, server))
        last, lines = None, []
        if row is not None:
            last = await self.context.read(lambda conn: find_last(conn, row.id))
            lines = await self.context.read(lambda conn: list_progress(conn, row.id))
        self.show(
            template,
            person=owner,
            server=server,
            row=row,
            last=last,
            lines=lines[-LINES_SHOWN:],
            is_over=row is not None and last is not None and last.ended_us is not None,
            at_us=now_us(),
        )


class Live(Resize):
    """What changes of it."""

    sends_to_login = False

    async def get(self) -> None:
        """Show only that."""
        await self.show_resize("_resize.html")
