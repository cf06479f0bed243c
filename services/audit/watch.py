"""The watch: runs the detectors over what becomes durable, and records what they find.

Findings are committed before the state that made them is kept, so a watch that dies finds the same
again, under the same keys, and nothing is found twice. The state is a file beside the log; without
it everything that is stored is looked at anew.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Connection, Row, select

from nightingale_hub.clock import now_us
from nightingale_hub.durable import save_bytes
from nightingale_hub.service import Context
from nightingale_hub.services.audit.catalogue import HubCatalogue
from nightingale_hub.services.audit.detect.detector import Detector, State
from nightingale_hub.services.audit.detect.finding import Finding
from nightingale_hub.services.audit.detect.rules import CURRENT
from nightingale_hub.services.audit.probes import check_probes
from nightingale_hub.services.audit.reader import EventReader, StoredBatch
from nightingale_hub.services.audit.respond.incidents import take_in
from nightingale_hub.tables.decoys import download

log = logging.getLogger("nightingale")
KEEP_EVERY_US = 60_000_000
PROBES_EVERY_US = 3_600_000_000
DOWNLOADS_AT_ONCE = 1000


class Kept(msgspec.Struct):
    """What a watch goes on from: all up to these numbers is in the state."""

    rules: int = CURRENT
    batch_number: int = 0
    download_id: int = 0
    state: State = msgspec.field(default_factory=State)


class Watch:
    """The detectors of one hub."""

    def __init__(
        self,
        context: Context,
        reader: EventReader,
        catalogue: HubCatalogue,
        clock: Callable[[], int] = now_us,
    ) -> None:
        """Follow *reader*; the state is kept in the state directory of *context*."""
        self._context = context
        self._reader = reader
        self._catalogue = catalogue
        self._clock = clock
        self._path = context.settings.state_path / "audit" / "detectors.state"
        self._kept_us = 0
        self._probed_us = 0
        self._kept: Kept | None = None
        self._detector: Detector | None = None

    async def step(self) -> None:
        """Look at all that is new; then at what the passing of time has decided."""
        if self._detector is None:
            self._kept = await asyncio.to_thread(load_kept, self._path)
            self._detector = Detector(self._catalogue, self._kept.state)
        assert self._kept is not None
        while True:
            await self._catalogue.refresh()
            batches = await self._reader.read_after(self._kept.batch_number)
            outs = await self._context.read(self._list_downloads)
            try:
                found = await asyncio.to_thread(self._look, batches, outs)
                if found:
                    await self._context.write(partial(self._record, found=found))
            except BaseException:
                # The counts hold what was not recorded: begin again from what is kept.
                self._detector = None
                raise
            if batches:
                self._kept.batch_number = batches[-1].number
            if outs:
                self._kept.download_id = outs[-1].id
            await self._keep()
            if not batches:
                await self._check_probes()
                return

    def _look(
        self, batches: Sequence[StoredBatch], outs: Sequence[Row[tuple[int]]]
    ) -> list[Finding]:
        assert self._detector is not None
        found: list[Finding] = []
        for row in outs:
            self._detector.note_out(row.owner, row.at_us, row.size, row.kind)
        for batch in batches:
            found += self._detector.feed(batch.events, batch.stream_id, batch.received_us)
        # Behind the log the clock is that of the log: what waits must not end early.
        return found + self._detector.tick(batches[-1].received_us if batches else self._clock())

    def _record(self, conn: Connection, found: Sequence[Finding]) -> None:
        for each in found:
            take_in(conn, each, self._clock())

    def _list_downloads(self, conn: Connection) -> list[Row[Any]]:
        assert self._kept is not None
        query = select(download).where(download.c.id > self._kept.download_id)
        return list(conn.execute(query.order_by(download.c.id).limit(DOWNLOADS_AT_ONCE)))

    async def _check_probes(self) -> None:
        at_us = self._clock()
        # Without users of their own nobody can tell the agent's open from a researcher's.
        if at_us < self._probed_us + PROBES_EVERY_US or not self._context.settings.isolate_users:
            return
        self._probed_us = at_us
        assert self._detector is not None
        probed = dict(self._detector.state.probed)
        await self._context.write(lambda conn: check_probes(conn, probed, at_us))

    async def _keep(self) -> None:
        assert self._kept is not None and self._detector is not None
        if self._clock() - self._kept_us < KEEP_EVERY_US:
            return
        self._kept_us = self._clock()
        self._kept.state = self._detector.state
        await asyncio.to_thread(save_kept, self._path, self._kept)


def save_kept(path: Path, kept: Kept) -> None:
    """Replace the file at *path*, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_bytes(path, zstandard.compress(msgspec.msgpack.encode(kept)))


def load_kept(path: Path) -> Kept:
    """Return what is in the file at *path*; of other rules, damaged or absent: nothing."""
    try:
        data = zstandard.ZstdDecompressor().decompress(path.read_bytes(), 4 << 30)
        kept = msgspec.msgpack.decode(data, type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, zstandard.ZstdError, msgspec.DecodeError) as error:
        log.warning("detectors begin anew, for their state cannot be read: %s", error)
        return Kept()
    if kept.rules != CURRENT:
        log.info("detectors begin anew under rules %d", CURRENT)
        return Kept()
    return kept
