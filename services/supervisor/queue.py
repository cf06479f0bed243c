"""The queue before Terraform: so many runs at once, first come first served, and all are told."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

LOOK_PAUSE_S = 1.0


class Queue:
    """The turns of one process."""

    def __init__(self) -> None:
        """Start with nobody at work."""
        self._at_work = 0
        self._waiting: deque[object] = deque()

    @asynccontextmanager
    async def turn(
        self,
        limit: int,
        tell: Callable[[str], Awaitable[object]],
        look: Callable[[], Awaitable[None]],
    ) -> AsyncIterator[None]:
        """Wait until fewer than *limit* are at work and nobody came before, then hold a place.

        *tell* gets the place whenever it changes; *look* may raise to give the wait up.
        """
        me, told = object(), 0
        self._waiting.append(me)
        try:
            while self._at_work >= limit or self._waiting[0] is not me:
                place = self._waiting.index(me) + 1
                if place != told:
                    told = place
                    await tell(f"Waiting for Terraform: place {place} in the queue")
                await look()
                await asyncio.sleep(LOOK_PAUSE_S / 5)
        finally:
            self._waiting.remove(me)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
