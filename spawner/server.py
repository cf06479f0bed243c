"""One server's instance: asked for, found and waited for, through the record alone."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row

from nightingale_hub.clock import now_us
from nightingale_hub.errors import Conflict, Unavailable
from nightingale_hub.estimates import estimate_launch
from nightingale_hub.homes import find_place
from nightingale_hub.instances import (
    SERVES,
    add_progress,
    find_current,
    get,
    list_progress,
    want_stopped,
)
from nightingale_hub.launch import Launch, create
from nightingale_hub.money import format_rate
from nightingale_hub.offers import Size, find_offer
from nightingale_hub.quotas import Quota, find_quota
from nightingale_hub.row_lease import this_machine
from nightingale_hub.secrets_at_rest import encrypt
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.spawner.record import Record
from nightingale_hub.spawner.refusal import LaunchRefused

LOOK_PAUSE_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """A server of the hub, by its owner and its name; the default server's name is empty."""

    settings: NightingaleHub
    record: Record
    owner: str
    name: str
    groups: tuple[str, ...] = ()  # the owner's in the hub

    async def find_instance(self) -> Row[Any] | None:
        """Return its instance that is not gone, or None; raises `Unavailable`."""
        return await self.record.read(lambda conn: find_current(conn, self.owner, self.name))

    def find_quota(self) -> Quota:
        """Return what its owner may have."""
        return find_quota(self.settings.quotas, self.owner, self.groups)

    def find_place(self, conn: Connection) -> tuple[str, str]:
        """Return the cloud and region of its home, which a launch before may have moved.

        Those of the settings while it has none.
        """
        return find_place(conn, self.owner, self.name) or (
            self.settings.cloud,
            self.settings.region,
        )

    async def ask(self, size: Size, secret: dict[str, Any], base_url: str) -> str:
        """Write down that an instance of *size* is wanted and return its id.

        It is made where its server's home is. *secret* is what that is started with. Costs money
        from the moment it is ready.
        Raises `NoOffer`, `Conflict` while the last instance is not gone, `OverQuota`,
        `NotAllowed` in quarantine, `Unavailable`.
        """
        sealed = encrypt(self.settings.secret_key(), secret)
        at_us = now_us()

        def write(conn: Connection) -> str:
            cloud, region = self.find_place(conn)
            offer = find_offer(conn, cloud, region, size, at_us)
            launch = Launch(
                self.owner,
                self.name,
                offer,
                sealed,
                base_url,
                self.groups,
                # Its processes are here; in a cloud any machine will do.
                machine=this_machine() if cloud == "local" else None,
                quota=self.find_quota(),
            )
            instance_id = create(conn, launch, at_us)
            rate = format_rate(offer.nano_usd_per_hour)
            add_progress(conn, instance_id, at_us, f"Asked for {size} at {rate}")
            estimate = estimate_launch(conn, cloud, region, offer.instance_type)
            if estimate is not None:
                add_progress(conn, instance_id, at_us, f"It takes {estimate}")
            return instance_id

        return await self.record.write(write)

    async def estimate_s(self, instance_id: str) -> float | None:
        """Return how long the launch of *instance_id* takes, where that is known; `Unavailable`."""

        def read(conn: Connection) -> float | None:
            row = get(conn, instance_id)
            estimate = estimate_launch(conn, row.cloud, row.region, row.instance_type)
            return None if estimate is None else estimate.seconds

        return await self.record.read(read)

    async def wait_running(self, instance_id: str) -> Row[Any]:
        """Return the instance once it runs; the caller bounds the wait.

        Raises `LaunchRefused` with the reason when it is to be stopped instead.
        """
        while True:
            row = await self._look(lambda conn: get(conn, instance_id))
            if row is not None and row.wanted != "running":
                raise LaunchRefused(row.reason, "launch_failed", 503)
            if row is not None and row.actual in SERVES:
                return row
            await asyncio.sleep(LOOK_PAUSE_S)

    async def make_way(self, timeout_s: float) -> None:
        """Wait until the server's last instance is gone; one that nobody stops is stopped here.

        It can't be taken over: its server holds a token that the hub has withdrawn. Raises
        `Conflict` with the last word on it after *timeout_s*.
        """
        row = await self.find_instance()
        if row is None:
            return
        await self.want_stopped("the hub had lost it, and a new one was asked for")
        if await self.wait_gone(timeout_s):
            return
        said = await self._look(lambda conn: list_progress(conn, row.id)[-1].message)
        raise Conflict(
            f"instance {row.id} of this server is not gone after {timeout_s:g} s, and is still "
            f"being removed; start again later. {said or ''}"
        )

    async def want_stopped(self, reason: str) -> None:
        """Accept the stop of the instance that it has, if any; raises `Unavailable`."""
        at_us = now_us()

        def write(conn: Connection) -> None:
            row = find_current(conn, self.owner, self.name)
            if row is not None:
                want_stopped(conn, row.id, at_us, reason)

        await self.record.write(write)

    async def wait_gone(self, timeout_s: float) -> bool:
        """Wait until it has no instance, at most *timeout_s*; return whether that is so."""
        deadline = time.monotonic() + timeout_s
        while True:
            is_gone = await self._look(
                lambda conn: find_current(conn, self.owner, self.name) is None
            )
            if is_gone or time.monotonic() > deadline:
                return bool(is_gone)
            await asyncio.sleep(LOOK_PAUSE_S)

    async def _look(self, work: Callable[[Connection], T]) -> T | None:
        # A database that is away for a moment ends no wait.
        try:
            return await self.record.read(work)
        except Unavailable:
            return None
