"""The meter at work: what it keeps in memory, and what it stores of that, and when."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.errors import Conflict
from nightingale_hub.service import Context
from nightingale_hub.services.metering.beats import Beats, Failure
from nightingale_hub.services.metering.health import Watch
from nightingale_hub.services.metering.rules import Beat, is_present
from nightingale_hub.services.metering.segment import READY
from nightingale_hub.services.metering.segments import (
    Metered,
    find_metered,
    list_metered,
    store,
)
from nightingale_hub.services.metering.steady import (
    BOOT_ID,
    SteadyClock,
    find_known,
    load_anchor,
    note_step,
    save_anchor,
)
from nightingale_hub.usage import note_fault

CHECKPOINT_US = 10 * US_PER_S
# A transaction that set gone_us may commit this much after the time that it wrote.
LATE_COMMIT_US = 60 * US_PER_S

log = logging.getLogger("nightingale")


class Meter:
    """Turns record and beats into segments; what it loses when killed, the database has."""

    def __init__(
        self,
        context: Context,
        clock: Callable[[], int] = now_us,
        since_boot: Callable[[], int] | None = None,
    ) -> None:
        """Start knowing nothing but *context*'s database.

        *clock* may be set while it runs where *since_boot* tells the µs since the machine booted.
        """
        self._steady = None if since_boot is None else SteadyClock(clock, since_boot)
        self.clock = self._steady or clock
        self.beats = Beats()
        self.watch = Watch(self.clock)
        self._context = context
        self._known: dict[str, frozenset[str]] | None = None
        self._writing = asyncio.Lock()
        self._settled_us = 0
        self._checkpoint_us = 0

    async def step(self) -> None:
        """Read the record, store what opened or ended, ask each server; a checkpoint every 10 s."""
        if self._steady is not None:
            await self._follow(self._steady)
        at_us = self.clock()
        metered = await self._context.read(lambda conn: list_metered(conn, self._settled_us))
        self._known = {each.row.id: find_known(each.row) for each in metered}
        self.watch.ask(each.row for each in metered)
        is_due = at_us - self._checkpoint_us >= CHECKPOINT_US
        proofs = self.beats.proofs
        await self._store(
            [
                each.row.id
                for each in metered
                if (each.changes(proofs) if is_due else each.needs_writing(proofs))
            ]
        )
        if is_due:
            self._checkpoint_us = at_us
        self._settled_us = at_us - LATE_COMMIT_US
        self.beats.forget_all_but({each.row.id for each in metered})

    async def _follow(self, steady: SteadyClock) -> None:
        """Record it when the machine's clock was set, also while no meter ran; then follow it."""
        boot_id = BOOT_ID.read_text().strip()
        if self._known is None:
            own_us = steady.offset_us
            steady.offset_us = await self._context.write(
                lambda conn: load_anchor(conn, boot_id, own_us)
            )
        step_us = steady.find_step()
        if not step_us:
            return
        at_us, known = steady(), self._known or {}
        log.warning("the clock of this machine was set by %+.3f s", step_us / US_PER_S)

        def note(conn: Connection) -> None:
            metered = list_metered(conn, self._settled_us)
            live = {each.row.id: (each.row, len(each.facts.shapes)) for each in metered}
            note_step(conn, at_us, step_us, live, known)
            save_anchor(conn, boot_id, steady.offset_us + step_us)

        async with self._writing:
            await self._context.write(note)
        steady.offset_us += step_us
        self._settled_us += step_us
        self._checkpoint_us += step_us
        self.beats.shift(step_us)

    async def take(self, instance_id: str, beat: Beat, failures: Sequence[Failure] = ()) -> None:
        """Take *beat* of an instance; what it opens or ends is stored before this returns.

        *failures* are what its agent proves that the platform failed in: they will be credited.

        Raises `Conflict` for a boot that is not metered: one that ended, or is not newer.
        """
        metered = await self._context.read(lambda conn: find_metered(conn, instance_id))
        assert metered is not None, "its credential was found in its record"
        if not self._is_present(metered, beat):
            self._refuse_unless_newer(metered, beat)
            log.warning("instance %s runs a new boot, %s", instance_id, beat.boot_id)
        self.beats.keep(instance_id, beat)
        if metered.needs_writing(self.beats.proofs):
            await self._store([instance_id])
        if failures:
            await self._note_failures(instance_id, beat, failures)

    async def list_live(self, owner: str | None) -> list[tuple[Metered, int | None]]:
        """Return each instance of *owner* (None: everyone) that is not gone, and its last proof."""
        metered = await self._context.read(lambda conn: list_metered(conn, self.clock()))
        live = []
        for each in metered:
            if owner is None or each.row.owner == owner:
                proofs = self.beats.proofs.get(each.row.id, {}).values()
                stored = [segment.seen_us for segment in each.segments]
                seen = [*stored, *(proof.seen_us for proof in proofs)]
                live.append((each, max(seen, default=None)))
        return live

    def _is_present(self, metered: Metered, beat: Beat) -> bool:
        # Beats go on while a stop is carried out; they then prove the allocation only.
        segments = metered.after(self.beats.proofs)
        if not any(each.meter == READY for each in segments):
            return bool(beat.boot_id == metered.row.boot_id)
        return is_present(segments, beat.boot_id)

    def _refuse_unless_newer(self, metered: Metered, beat: Beat) -> None:
        proof = self.beats.with_beat(metered.row.id, beat)
        if not metered.may_follow(self.beats.proofs, proof):
            raise Conflict(
                f"boot {beat.boot_id} of instance {metered.row.id} is not metered: it ended, or "
                "another boot runs"
            )

    async def _note_failures(
        self, instance_id: str, beat: Beat, failures: Sequence[Failure]
    ) -> None:
        started_us = self.beats.proofs[instance_id][beat.boot_id].started_us

        def note(conn: Connection) -> None:
            for each in failures:
                last_us = beat.uptime_us if each.until_us is None else each.until_us
                note_fault(
                    conn, instance_id, each.cause, "agent", started_us + each.since_us,
                    started_us + max(each.since_us, last_us),
                    f"{beat.boot_id}:{each.cause}:{each.since_us}", each.until_us is None,
                )  # fmt: skip

        await self._context.write(note)

    async def _store(self, instance_ids: list[str]) -> None:
        if not instance_ids:
            return
        async with self._writing:
            proofs = {key: dict(each) for key, each in self.beats.proofs.items()}
            await self._context.write(lambda conn: store(conn, instance_ids, proofs))
