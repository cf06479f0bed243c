"""What metering answers: to an agent that its beat counts, to the console what is up."""

import logging

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.errors import BadInput, NotAllowed
from nightingale_hub.services.metering.beats import (
    MAX_BODY_BYTES,
    parse_beat,
    parse_failures,
)
from nightingale_hub.services.metering.meter import Meter

log = logging.getLogger("nightingale")
LOGGED_FAULT_CHARS = 300


class MeterHandler(ServiceHandler):
    """A handler that works with the meter."""

    def initialize(self, meter: Meter) -> None:
        """Take the service's meter."""
        self.meter = meter


class BeatHandler(MeterHandler):
    """An agent proves that its boot is up."""

    async def post(self) -> None:
        """Take one beat and reply when it arrived.

        Raises `NotAllowed` for another instance's credential, `BadInput` for a malformed beat,
        `Conflict` for a boot that is not metered.
        """
        at_us = self.meter.clock()
        row = await self.require_instance()
        if len(self.request.body) > MAX_BODY_BYTES:
            raise BadInput(f"a beat has at most {MAX_BODY_BYTES >> 10} KiB")
        body = self.json_body()
        failures = parse_failures(body)
        instance_id, beat, faults = parse_beat(body, at_us)
        if instance_id != row.id:
            raise NotAllowed("this credential is another instance's")
        for fault in faults:
            log.warning("instance %s reports %r", row.id, fault[:LOGGED_FAULT_CHARS])
        await self.meter.take(row.id, beat, failures)
        self.reply({"at_us": at_us})


class LiveHandler(MeterHandler):
    """The console asks what is up."""

    async def get(self) -> None:
        """Reply each instance of `?owner=` (default: everyone) that is not gone."""
        await self.require_service("console")
        owner = self.get_query_argument("owner", "") or None
        instances = []
        for each, seen_us in await self.meter.list_live(owner):
            health = self.meter.watch.find(each.row.id)
            instances.append(
                {
                    "instance_id": each.row.id,
                    "boot_id": each.row.boot_id,
                    "healthy": health is not None and health.is_healthy,
                    "last_ok_us": None if health is None else health.last_ok_us,
                    "ready_us": each.row.ready_us,
                    "seen_us": seen_us,
                    "missed": 0 if health is None else health.missed,
                }
            )
        self.reply({"instances": instances})
