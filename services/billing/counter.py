"""The routes behind which the desk, quotes and holds stand, for the services that may ask."""

from functools import partial
from typing import Any

from sqlalchemy import Connection

from nightingale_hub import instances
from nightingale_hub.auth import ServiceHandler
from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, TooLarge
from nightingale_hub.offers import LETTERS, parse_size
from nightingale_hub.services.billing import holds
from nightingale_hub.services.billing.desk.verbs import get_verb, serve
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.prices import MAX_LIST_BYTES
from nightingale_hub.services.billing.quote import compare_run, quote_size
from nightingale_hub.services.billing.statement import parse_owner

MAX_BODY_BYTES = 64 << 10
# A service takes bodies of 64 MiB at most; a larger bill goes in on the hub's own machine.
LARGE_BODIES = {
    "price.add": 2 * MAX_LIST_BYTES,
    "price.refresh": 2 * MAX_LIST_BYTES,
    "reconcile.take": 60 << 20,
}


class CounterHandler(ServiceHandler):
    """A route that takes bodies of a known size only."""

    def bounded_body(self, most: int = MAX_BODY_BYTES) -> dict[str, Any]:
        """Return the request's JSON object; raises `TooLarge` or `BadInput`."""
        if len(self.request.body) > most:
            raise TooLarge(f"the request has more than {most >> 10} KiB")
        return self.json_body()


class DeskHandler(CounterHandler):
    """One verb of the desk, asked by the console in a person's name."""

    async def post(self, verb: str) -> None:
        """Reply the verb's answer to `{"actor", "is_admin", "fields"}`; raises what it raises."""
        await self.require_service("console")
        body = self.bounded_body(LARGE_BODIES.get(verb, MAX_BODY_BYTES))
        actor, fields = body.get("actor"), body.get("fields")
        if not isinstance(actor, str) or not isinstance(fields, dict):
            raise BadInput("say who asks and what: actor and fields")
        is_admin = body.get("is_admin") is True
        work = partial(self._serve, verb=verb, actor=actor, is_admin=is_admin, fields=fields)
        run = self.context.write if get_verb(verb).writes else self.context.read
        self.reply(await run(work))

    def _serve(
        self, conn: Connection, *, verb: str, actor: str, is_admin: bool, fields: dict[str, Any]
    ) -> dict[str, Any]:
        settings = self.context.settings
        visit = Visit(
            conn, actor, is_admin, now_us(), settings.invoice_issuer, settings.invoice_due_days
        )
        return serve(visit, verb, fields)


class HoldHandler(CounterHandler):
    """The supervisor has the money for a launch or a resize held."""

    async def post(self) -> None:
        """Reply the hold of `{"instance_id"}`, the same however often it is asked for.

        For a resize with `cpu`, `gpu`, `disk`, `instance_type` and `nano_usd_per_hour` as well.

        Raises `OverBudget` when there is not enough, `NotFound` for an unknown instance.
        """
        await self.require_service("supervisor")
        body = self.bounded_body()
        instance_id, nano = body.pop("instance_id", None), body.pop("nano_usd_per_hour", None)
        instance_type = body.pop("instance_type", None)
        if not isinstance(instance_id, str):
            raise BadInput("instance_id names the instance")
        wanted, at_us = None, now_us()
        if body:
            if type(nano) is not int or nano < 0:
                raise BadInput("a resize needs nano_usd_per_hour, a whole number")
            if not isinstance(instance_type, str) or not instance_type:
                raise BadInput("a resize needs instance_type, which a cloud prices it by")
            wanted = holds.Wanted(parse_size(body), instance_type, nano)

        def work(conn: Connection) -> dict[str, Any]:
            if wanted is None:
                kept = holds.ask(conn, instance_id, at_us)
            else:
                kept = holds.ask_resize(conn, instance_id, wanted, at_us)
            return holds.describe(instances.get(conn, instance_id), kept)

        self.reply(await self.context.write(work))


class QuoteHandler(CounterHandler):
    """What a size costs before it is started."""

    async def get(self) -> None:
        """Reply the quote of `?owner=&cpu=&gpu=&disk=`; raises `BadInput`, `NoOffer`."""
        await self.require_service("console", "supervisor")
        owner = parse_owner(self.get_query_argument("owner", ""))
        given: dict[str, object] = {
            name: self.get_query_argument(name)
            for name in LETTERS
            if self.get_query_argument(name, None) is not None
        }
        size, settings = parse_size(given), self.context.settings
        self.reply(
            await self.context.read(
                lambda conn: quote_size(
                    conn, owner, settings.cloud, settings.region, size, now_us()
                )
            )
        )


class CompareHandler(CounterHandler):
    """What a run would have cost on the other sizes."""

    async def get(self) -> None:
        """Reply the comparison of `?owner=&instance=`; raises `NotFound` for another's."""
        await self.require_service("console")
        owner = parse_owner(self.get_query_argument("owner", ""))
        instance_id = self.get_query_argument("instance", "")
        self.reply(
            await self.context.read(lambda conn: compare_run(conn, owner, instance_id, now_us()))
        )


ROUTES: list[tuple[str, type, dict[str, Any]]] = [
    (r"api/desk/([a-z]+\.[a-z]+)", DeskHandler, {}),
    (r"api/holds", HoldHandler, {}),
    (r"api/quote", QuoteHandler, {}),
    (r"api/compare", CompareHandler, {}),
]
