"""What the supervisor answers: an agent that calls home, and the console that asks for a stop."""

import logging
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, NotAllowed, TooLarge
from nightingale_hub.instances import get, want_stopped
from nightingale_hub.services.supervisor.bootstrap import boot, parse_call
from nightingale_hub.services.supervisor.hub import Hub
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
            return is_accepted, get(conn, instance_id)

        is_accepted, row = await self.context.write(accept)
        if is_accepted:
            self.hub.tell_stopped(row.owner, row.server_name)
        self.reply({"accepted": is_accepted, "stop_accepted_us": row.stop_accepted_us})


def _parse_reason(body: dict[str, Any]) -> str:
    reason, actor = body.get("reason"), body.get("actor", "")
    if not isinstance(reason, str) or not reason.strip():
        raise BadInput("reason must say why, for the instance's owner")
    if not isinstance(actor, str) or len(reason) + len(actor) > MAX_REASON_CHARS:
        raise BadInput(f"reason and actor together have at most {MAX_REASON_CHARS} characters")
    return visible(f"{actor.strip()}: {reason.strip()}" if actor.strip() else reason.strip())
