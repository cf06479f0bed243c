"""The one writer of the log: many senders' batches share one sync and one transaction.

A batch is acknowledged only after its frame is on disk and its row is committed. Whatever dies
in between, the sender sends again: a frame without a row does not count.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.clock import now_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.service import Context
from nightingale_hub.services.audit import frame, stream
from nightingale_hub.services.audit.batch import Batch
from nightingale_hub.services.audit.frame import DamagedFrame
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.services.audit.stream import Ack, Contradiction, Gap

log = logging.getLogger("nightingale")
MAX_QUEUED = 256
MAX_QUEUED_BYTES = 64 << 20
MAX_GROUP_BYTES = 16 << 20

Answer = Ack | Gap | Contradiction


@dataclass(frozen=True, eq=False)
class Waiting:
    """A batch in the queue, and where its sender waits for the answer."""

    batch: Batch
    answer: asyncio.Future[Answer]


class Writer:
    """A bounded queue of batches, and the steps that make a group of them durable."""

    def __init__(self, context: Context, segments: Segments) -> None:
        """Write to *segments* and the database of *context*."""
        self.context = context
        self.segments = segments
        self._queue: list[Waiting] = []
        self._arrived = asyncio.Event()
        self._is_stopped = False

    async def store(self, batch: Batch) -> Answer:
        """Return what became of *batch* once that is durable; raises `Unavailable`."""
        if self._is_stopped:
            raise Unavailable("the audit service is stopping; send the batch again in a second")
        queued_bytes = sum(len(each.batch.payload) for each in self._queue)
        if len(self._queue) >= MAX_QUEUED or queued_bytes >= MAX_QUEUED_BYTES:
            raise Unavailable("the audit service is busy; send the batch again in a second")
        waiting = Waiting(batch, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def step(self) -> None:
        """Wait for batches, make one group of them durable and answer their senders."""
        await self._arrived.wait()
        group = self._take_group()
        try:
            await self._store_group(group)
        except (SQLAlchemyError, Unavailable) as error:
            log.error("%d audit batches were not stored: %s", len(group), error)
        finally:
            _refuse(group)

    async def stop(self) -> None:
        """Refuse what still waits or comes, and close the segment file."""
        self._is_stopped = True
        _refuse(self._queue)
        await asyncio.to_thread(self.segments.close)

    async def append(self, batches: Sequence[Batch], at_us: int) -> list[Place]:
        """Return where each batch is on disk, once it is."""

        def work() -> list[Place]:
            return self.segments.append([frame.encode(each, at_us) for each in batches])

        return await asyncio.to_thread(work)

    async def record(self, written: Sequence[tuple[Batch, Place]], at_us: int) -> None:
        """Commit that each batch is durable at its place."""
        await self.context.write(lambda conn: stream.record(conn, written, at_us))

    async def _store_group(self, group: Sequence[Waiting]) -> None:
        settled = await self.context.read(lambda conn: self._settle(conn, group))
        fresh = [part for part in settled if isinstance(part, Batch)]
        if fresh:
            at_us = now_us()
            places = await self.append(fresh, at_us)
            await self.record(list(zip(fresh, places, strict=True)), at_us)
        for waiting, part in zip(group, settled, strict=True):
            if part is None or waiting.answer.done():
                continue
            waiting.answer.set_result(Ack(part.last_seq) if isinstance(part, Batch) else part)

    def _settle(self, conn: Connection, group: Sequence[Waiting]) -> list[Answer | Batch | None]:
        settled: list[Answer | Batch | None] = []
        for waiting in group:
            try:
                settled.append(stream.settle(conn, self.segments, waiting.batch))
            except DamagedFrame as error:
                # Without the stored lines nobody can tell whether these are the same.
                log.critical("audit stream %s: %s", waiting.batch.stream_id, error)
                settled.append(None)
        return settled

    def _take_group(self) -> list[Waiting]:
        # One batch of a stream at a time: the next is settled against what this one stores.
        group: list[Waiting] = []
        rest: list[Waiting] = []
        streams: set[str] = set()
        group_bytes = 0
        for waiting in self._queue:
            size = len(waiting.batch.payload)
            if waiting.batch.stream_id in streams or (
                group and group_bytes + size > MAX_GROUP_BYTES
            ):
                rest.append(waiting)
                continue
            streams.add(waiting.batch.stream_id)
            group_bytes += size
            group.append(waiting)
        self._queue = rest
        if not rest:
            self._arrived.clear()
        return group


def _refuse(group: Sequence[Waiting]) -> None:
    for waiting in group:
        if not waiting.answer.done():
            waiting.answer.set_exception(
                Unavailable("the batch was not stored; send it again in a second")
            )
