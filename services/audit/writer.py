"""The one writer of the log: many senders' batches share one sync and one transaction.

A batch is acknowledged only after its frame is on disk and its row is committed. Whatever dies
in between, the sender sends again: a frame without a row does not count.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.clock import now_us
from nightingale_hub.errors import TooMany, Unavailable
from nightingale_hub.service import Context
from nightingale_hub.services.audit import frame, stream
from nightingale_hub.services.audit.batch import Batch
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.services.audit.stream import Ack, Answer

log = logging.getLogger("nightingale")
MAX_QUEUED = 256
MAX_QUEUED_BYTES = 64 << 20
MAX_GROUP_BYTES = 16 << 20


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
        self.ensure_room()
        waiting = Waiting(batch, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    def ensure_room(self) -> None:
        """Raise `TooMany` while the queue is full, `Unavailable` once the service stops."""
        if self._is_stopped:
            raise Unavailable("the audit service is stopping; send the batch again in a second")
        queued_bytes = sum(len(each.batch.payload) for each in self._queue)
        if len(self._queue) >= MAX_QUEUED or queued_bytes >= MAX_QUEUED_BYTES:
            raise TooMany("the audit service has enough to do; send the batch again in a second")

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
        settled, newest = await self.context.read(
            lambda conn: (
                [stream.settle(conn, waiting.batch) for waiting in group],
                stream.get_newest_number(conn),
            )
        )
        fresh = [part for part in settled if isinstance(part, Batch)]
        fresh = [replace(part, number=number) for number, part in enumerate(fresh, newest + 1)]
        if fresh:
            at_us = now_us()
            places = await self.append(fresh, at_us)
            await self.record(list(zip(fresh, places, strict=True)), at_us)
        for waiting, part in zip(group, settled, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(Ack(part.last_seq) if isinstance(part, Batch) else part)

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
