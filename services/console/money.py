"""The API's money: every verb of billing's desk, a quote, a comparison, and its OpenAPI.

Billing decides who may see which customer; here a token must be a person's own for the desk, and
hold the scope for what only admins may ask.
"""

from typing import Any

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.desk import VERBS, Verb
from nightingale_hub.errors import BadInput, NotAllowed, NotFound, TooLarge
from nightingale_hub.offers import LETTERS
from nightingale_hub.services.console.api import Api
from nightingale_hub.services.console.caller import READ, Caller
from nightingale_hub.services.console.openapi import describe_api
from nightingale_hub.services.console.parts import Parts

ADMIN = "custom:nightingale:money:treasury"
SET = "custom:nightingale:money:set"
MAX_BODY_BYTES = 64 << 10
MAX_LIST_BYTES = 8 << 20


async def ask_desk(
    parts: Parts, person: Caller, verb: str, fields: dict[str, Any], as_admin: bool
) -> dict[str, Any]:
    """Return what billing's desk answers *person*; raises as it does."""
    body = {"actor": person.name, "is_admin": as_admin, "fields": fields}
    return await parts.post("billing", f"desk/{verb}", body)


class Money(ServiceHandler):
    """A verb of the desk, in the name of the person whose token came."""

    async def get(self, name: str) -> None:
        """Reply what a verb that reads answers to the query's fields."""
        verb = _find(name)
        if verb.writes:
            raise BadInput(f"{name} changes something: send it by POST")
        fields: dict[str, Any] = {
            key: self.get_query_argument(key) for key in self.request.query_arguments
        }
        await self._serve(name, verb, fields)

    async def post(self, name: str) -> None:
        """Reply what a verb that writes answers to the body's fields; raises `TooLarge`."""
        verb = _find(name)
        if not verb.writes:
            raise BadInput(f"{name} reads: ask for it by GET")
        most = MAX_LIST_BYTES if name in ("price.add", "price.refresh") else MAX_BODY_BYTES
        if len(self.request.body) > most:
            raise TooLarge(f"the request has more than {most >> 10} KiB")
        await self._serve(name, verb, self.json_body())

    async def _serve(self, name: str, verb: Verb, fields: dict[str, Any]) -> None:
        person = Caller.from_model(await self.caller())
        as_admin = ADMIN in person.scopes
        if verb.admin and not as_admin:
            raise NotAllowed(f"{name} needs a token with the scope {ADMIN}")
        needed = SET if verb.writes else READ
        if not as_admin and person.scopes.isdisjoint({needed, f"{needed}!user={person.name}"}):
            raise NotAllowed(f"{name} needs a person's own token with {needed}, not a server's")
        parts: Parts = self.settings["parts"]
        self.reply(await ask_desk(parts, person, name, fields, as_admin))


class Quote(Api):
    """What a size would cost."""

    async def get(self) -> None:
        """Reply rate, hold and time left for `?cpu=&gpu=&disk=`; raises `BadInput`, `NoOffer`."""
        given = {name: self.get_query_argument(name, None) for name in LETTERS}
        self.reply(await self.parts.get("billing", "quote", owner=self.person.name, **given))


class Compare(Api):
    """What a run would have cost on the other sizes."""

    async def get(self) -> None:
        """Reply the comparison of `?instance=`, by default the server's last; raises `NotFound`."""
        instance_id = self.get_query_argument("instance", "")
        if not instance_id:
            row = await self.find_instance()
            if row is None:
                raise NotFound("nothing ran here, so there is nothing to compare")
            instance_id = row.id
        owner = self.person.name
        self.reply(await self.parts.get("billing", "compare", owner=owner, instance=instance_id))


class OpenApi(ServiceHandler):
    """The description of this API."""

    def get(self) -> None:
        """Reply it to anyone: it says nothing about anybody."""
        self.reply(describe_api(self.context.prefix, self.settings["api_routes"]))


def _find(name: str) -> Verb:
    if name not in VERBS:
        raise NotFound(f"there is no {name[:40]!r}; there is: {', '.join(VERBS)}")
    return VERBS[name]
