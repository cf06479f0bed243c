"""Changes to an instance that runs: another size, or more time before it is stopped as idle."""

from typing import Any

from sqlalchemy import Row

from nightingale_hub.auth import parse_int
from nightingale_hub.errors import BadInput, NotAllowed, NotFound
from nightingale_hub.offers import LETTERS
from nightingale_hub.resizing import find_last
from nightingale_hub.services.console.api import Api
from nightingale_hub.services.console.caller import CHANGE


class Change(Api):
    """A route that changes the server's instance."""

    async def get_running(self) -> Row[Any]:
        """Return the instance; raises `NotFound` when none is there, `NotAllowed`."""
        if not self.person.holds(CHANGE, self.person.name, self.server):
            raise NotAllowed("this token may not change its instance")
        row = await self.find_instance()
        if row is None or row.gone_us is not None:
            raise NotFound("nothing runs here, so nothing was changed")
        return row


class Resize(Change):
    """Another size; what is not named stays as it is."""

    async def get(self) -> None:
        """Reply what `?cpu=&gpu=&disk=` would do (null without one), and the last resize."""
        row = await self.get_running()
        given = {name: self.get_query_argument(name, "") for name in LETTERS}
        plan = None
        if any(given.values()):
            wanted = _complete(row, given)
            plan = await self.parts.get("supervisor", f"instances/{row.id}/resize", **wanted)
        last = await self.context.read(lambda conn: find_last(conn, row.id))
        self.reply({"plan": plan, "last": None if last is None else _describe(last)})

    async def post(self) -> None:
        """Ask the supervisor for the size of `{"cpu", "gpu", "disk"}`; reply what it will do.

        Raises `BadInput`, `NoOffer`, `OverQuota`, `Conflict` while it cannot be resized.
        """
        row = await self.get_running()
        body = self.json_body()
        unknown = sorted(set(body) - set(LETTERS))
        if unknown or not body:
            raise BadInput(f"name one or more of {', '.join(LETTERS)} and nothing else")
        wanted = {**_complete(row, body), "actor": self.person.name}
        plan = await self.parts.post("supervisor", f"instances/{row.id}/resize", wanted)
        self.reply({"accepted": True, "plan": plan})


class Extend(Change):
    """More time before it is stopped as idle."""

    async def post(self) -> None:
        """Keep the instance for `?for_s=` seconds from now on; reply until when.

        With `?lease=1`, for a program that asks again and again: no shorter, and nobody is told.
        Raises `BadInput` for a time that is none or longer than may be kept.
        """
        row = await self.get_running()
        for_s = parse_int(self, "for_s", None)
        if for_s is None:
            raise BadInput("say for how long: for_s=3600")
        body: dict[str, Any] = {"for_s": for_s}
        if self.get_query_argument("lease", "") == "1":
            body["is_lease"] = True
        self.reply(await self.parts.post("supervisor", f"instances/{row.id}/keep", body))


def _complete(row: Row[Any], given: dict[str, Any]) -> dict[str, Any]:
    return {name: given.get(name) or getattr(row, name) for name in LETTERS}


def _describe(last: Row[Any]) -> dict[str, Any]:
    names = ("cpu", "gpu", "disk", "phase", "asked_us", "ended_us", "outcome")
    return {name: getattr(last, name) for name in names}
