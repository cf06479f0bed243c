"""Which datasets the owner of an instance may open now, for its agent, which asks all the time."""

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.datasets import list_granted


class GrantsHandler(ServiceHandler):
    """POST grants: an agent asks, with its own credential."""

    async def post(self) -> None:
        """Reply `{"datasets": [name, ...]}`; raises `NotAllowed` for a wrong credential."""
        row = await self.require_instance()
        granted = await self.context.read(lambda conn: list_granted(conn, row.owner))
        self.reply({"datasets": [each.name for each in granted]})
