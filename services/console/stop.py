"""The stop of an instance from a browser: a page that says what will happen, then the stop."""

from typing import Any

from sqlalchemy import Row

from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.instances import find
from nightingale_hub.services.console.page import Page
from nightingale_hub.services.console.summary import gather_figures

MAX_REASON = 500


class Stop(Page):
    """Confirm, then stop. An instance that the reader may not stop does not exist here."""

    async def get_instance(self) -> Row[Any]:
        """Return the instance that `instance=` names; raises `NotFound` for another's."""
        instance_id = self.get_argument("instance", "")
        row = await self.context.read(lambda conn: find(conn, instance_id))
        if row is None or not (self.person.may_stop(row) or self.person.is_admin):
            raise NotFound("No such instance is yours.")
        return row

    async def get(self) -> None:
        """Show the instance, its cost so far and what a stop does."""
        row = await self.get_instance()
        figures = await gather_figures(self.parts, row.owner, now_us())
        self.show(
            "stop.html",
            instance=figures.summarize(row),
            is_own=row.owner == self.person.name,
            missing=figures.missing,
            at_us=now_us(),
        )

    async def post(self) -> None:
        """Ask the supervisor for the stop and lead back to where it shows.

        Raises `BadInput` when another's instance is stopped without a reason.
        """
        row = await self.get_instance()
        is_own = row.owner == self.person.name
        said = self.get_body_argument("reason", "").strip()
        if not is_own and not said:
            raise BadInput("Say why: its owner will read the reason.")
        if len(said) > MAX_REASON:
            raise BadInput(f"The reason is longer than {MAX_REASON} characters.")
        who = f"{self.person.name} asked for it" if is_own else f"admin {self.person.name}"
        reason = f"{who}: {said}" if said else who
        if row.gone_us is None:
            await self.parts.post("supervisor", f"instances/{row.id}/stop", {"reason": reason})
        self.redirect(f"{self.context.prefix}{'' if is_own else 'admin'}", status=303)
