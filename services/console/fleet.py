"""The API's fleet: orphans, quarantines, homes and datasets, for the hub's admins alone."""

from functools import partial

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.clock import now_us
from nightingale_hub.desk import FLEET_VERBS
from nightingale_hub.errors import BadInput, NotAllowed, TooLarge
from nightingale_hub.fleet import serve
from nightingale_hub.services.console.caller import Caller

ADMIN = "custom:nightingale:fleet:manage"
MAX_BODY_BYTES = 16 << 10


class FleetDesk(ServiceHandler):
    """A verb of the fleet, in the name of the admin whose token came."""

    async def get(self, name: str) -> None:
        """Reply what a verb that reads answers; raises `NotAllowed`, `NotFound`, `BadInput`."""
        person = await self._require_admin(name)
        if name in FLEET_VERBS and FLEET_VERBS[name].writes:
            raise BadInput(f"{name} changes something: send it by POST")
        fields = {key: self.get_query_argument(key) for key in self.request.query_arguments}
        self.reply(
            await self.context.read(
                partial(serve, name=name, actor=person.name, fields=fields, at_us=now_us())
            )
        )

    async def post(self, name: str) -> None:
        """Reply what a verb that writes answers to the body's fields; raises as `get`."""
        person = await self._require_admin(name)
        if name in FLEET_VERBS and not FLEET_VERBS[name].writes:
            raise BadInput(f"{name} reads: ask for it by GET")
        if len(self.request.body) > MAX_BODY_BYTES:
            raise TooLarge(f"the request has more than {MAX_BODY_BYTES >> 10} KiB")
        fields = self.json_body()
        self.reply(
            await self.context.write(
                partial(serve, name=name, actor=person.name, fields=fields, at_us=now_us())
            )
        )

    async def _require_admin(self, name: str) -> Caller:
        person = Caller.from_model(await self.caller())
        if ADMIN not in person.scopes:
            raise NotAllowed(f"{name} needs a token with the scope {ADMIN}")
        return person
