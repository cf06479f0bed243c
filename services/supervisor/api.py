"""What the supervisor answers: an agent that calls home, and the console that asks for a stop."""

import logging
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.activity import keep, lease, parse_report, take_report
from nightingale_hub.auth import ServiceHandler
from nightingale_hub.clock import US_PER_S, format_duration, now_us
from nightingale_hub.errors import BadInput, NotAllowed, TooLarge
from nightingale_hub.instances import get, want_stopped
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.offers import describe_offer, parse_size
from nightingale_hub.resizing import Plan
from nightingale_hub.services.supervisor.asked import plan_size, want_size
from nightingale_hub.services.supervisor.bootstrap import boot, parse_call
from nightingale_hub.services.supervisor.hub import Hub
from nightingale_hub.services.supervisor.money import Money
from nightingale_hub.terms import rate_offer, resolve_terms
from nightingale_hub.text import visible

log = logging.getLogger("nightingale")
MAX_BODY_BYTES = 16 << 10
MAX_REASON_CHARS = 600


class SupervisorHandler(ServiceHandler):
    """A handler that takes small bodies only."""

    def small_body(self) -> dict[str, Any]:
        """Return the request's JSON object; raises `TooLarge` or `BadInput`."""
        if len(self.request.body) > MAX_BODY_BYTES:
            raise TooLarge(f"the request has more than {MAX_BODY_BYTES >> 10} KiB")
        return self.json_body()


class BootstrapHandler(SupervisorHandler):
    """An agent calls home; nothing but its nonce says who it is."""

    async def post(self) -> None:
        """Reply all that the instance needs, once.

        Raises `NotAllowed` for a nonce that is wrong or used, `NotFound` for an unknown
        instance, `BadInput` for a malformed call.
        """
        call = parse_call(self.small_body())
        settings, at_us = self.context.settings, now_us()
        try:
            reply = await self.context.write(lambda conn: boot(conn, settings, call, at_us))
        except NotAllowed as refusal:
            log.warning("bootstrap from %s refused: %s", self.request.remote_ip, refusal)
            raise
        self.reply(reply)


class StopHandler(SupervisorHandler):
    """The console asks for a stop, in a person's name."""

    def initialize(self, hub: Hub) -> None:
        """Take the hub that is told."""
        self.hub = hub

    async def post(self, instance_id: str) -> None:
        """Accept the stop: billing ends now. Reply whether it is this one that ends it.

        Raises `NotFound`, and `BadInput` without a reason.
        """
        await self.require_service("console")
        reason = _parse_reason(self.small_body())
        at_us = now_us()

        def accept(conn: Connection) -> tuple[bool, Row[Any]]:
            get(conn, instance_id)
            is_accepted = want_stopped(conn, instance_id, at_us, reason)
            if is_accepted:
                append_leaf(conn, "stop", {"instance": instance_id, "reason": reason}, at_us)
            return is_accepted, get(conn, instance_id)

        is_accepted, row = await self.context.write(accept)
        if is_accepted:
            self.hub.tell_stopped(row.owner, row.server_name)
        self.reply({"accepted": is_accepted, "stop_accepted_us": row.stop_accepted_us})


class ResizeHandler(SupervisorHandler):
    """The console asks, in a person's name, what a resize would do, or for the resize."""

    def initialize(self, money: Money | None) -> None:
        """Take billing's holds, where the hub has billing."""
        self.money = money

    async def get(self, instance_id: str) -> None:
        """Reply what giving the instance the size of the query would do.

        Raises what `plan_resize` raises, `NotFound`, and `BadInput` for a size that is none.
        """
        await self.require_service("console")
        size = parse_size({name: self.get_query_argument(name) for name in self._list_given()})
        settings, at_us = self.context.settings, now_us()

        def read(conn: Connection) -> dict[str, Any]:
            plan = plan_size(conn, settings, instance_id, size, at_us)
            return _describe(conn, instance_id, plan)

        self.reply(await self.context.read(read))

    async def post(self, instance_id: str) -> None:
        """Have the resize written down, and reply what it will do.

        Raises as `get`, and `OverBudget` where the money for it cannot be held.
        """
        await self.require_service("console")
        body = self.small_body()
        actor = body.pop("actor", None)
        if not isinstance(actor, str) or not actor.strip() or len(actor) > MAX_REASON_CHARS:
            raise BadInput("actor must say who asks")
        size, who = parse_size(body), visible(actor.strip())
        settings, at_us = self.context.settings, now_us()

        def check(conn: Connection) -> Plan:
            plan = plan_size(conn, settings, instance_id, size, at_us)
            # What cannot be priced is refused before money is held for it.
            _describe(conn, instance_id, plan)
            return plan

        def write(conn: Connection) -> dict[str, Any]:
            plan = want_size(conn, settings, instance_id, size, who, at_us)
            return _describe(conn, instance_id, plan)

        asked = await self.context.read(check)
        if self.money is not None:
            # Asked once more before it begins; here so that who asks is told at once.
            await self.money.hold_resize(instance_id, asked.then)
        self.reply(await self.context.write(write))

    def _list_given(self) -> list[str]:
        return sorted(self.request.query_arguments)


class ActivityHandler(SupervisorHandler):
    """An agent says what its instance is used for, and what went wrong in it."""

    async def post(self) -> None:
        """Take one report; raises `NotAllowed` for a wrong credential, `BadInput`."""
        row = await self.require_instance()
        report, faults = parse_report(self.small_body())
        faults = [visible(each) for each in faults]
        at_us = now_us()
        await self.context.write(lambda conn: take_report(conn, row.id, report, faults, at_us))
        self.reply({"at_us": at_us})


class KeepHandler(SupervisorHandler):
    """The console asks to keep an instance from being stopped as idle."""

    async def post(self, instance_id: str) -> None:
        """Keep it for `{"for_s"}` seconds, for a program when `"is_lease"`; reply until when.

        Raises `NotFound`, `BadInput` for a time that is none or too long.
        """
        await self.require_service("console")
        body, most_s = self.small_body(), self.context.settings.keep_limit_s
        for_s, hold = body.get("for_s"), lease if body.get("is_lease") is True else keep
        if type(for_s) is not int or not 60 <= for_s <= most_s:
            raise BadInput(
                f"an instance can be kept for 1 minute to {format_duration(int(most_s))} at a time"
            )
        at_us, for_us = now_us(), for_s * US_PER_S

        def write(conn: Connection) -> int:
            get(conn, instance_id)
            return hold(conn, instance_id, for_us, at_us)

        self.reply({"keep_until_us": await self.context.write(write)})


def _describe(conn: Connection, instance_id: str, plan: Plan) -> dict[str, Any]:
    """Return *plan* with what it costs whoever pays for the instance; raises `NotFound`."""
    row = get(conn, instance_id)
    now, then = (rate_offer(conn, row, each) for each in (plan.now, plan.then))
    return {
        "now": {**describe_offer(plan.now), "nano_per_hour": now},
        "then": {**describe_offer(plan.then), "nano_per_hour": then},
        "more_nano_per_hour": then - now,
        "currency": resolve_terms(conn, row.owner, row.created_us).customer.currency,
    }


def _parse_reason(body: dict[str, Any]) -> str:
    reason, actor = body.get("reason"), body.get("actor", "")
    if not isinstance(reason, str) or not reason.strip():
        raise BadInput("reason must say why, for the instance's owner")
    if not isinstance(actor, str) or len(reason) + len(actor) > MAX_REASON_CHARS:
        raise BadInput(f"reason and actor together have at most {MAX_REASON_CHARS} characters")
    return visible(f"{actor.strip()}: {reason.strip()}" if actor.strip() else reason.strip())
