"""What a step works with: one instance's record as it was read, and the means to change it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.instances import Cause, State, put_off, reset_attempts, take_edge, want_stopped
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.money import Money
from nightingale_hub.services.supervisor.site import Site

MAX_PAUSE_S = 300.0


@dataclass(frozen=True)
class Work:
    """One instance at the moment of a step."""

    context: Context
    row: Row[Any]
    clock: Callable[[], int]
    money: Money | None = None

    @property
    def site(self) -> Site:
        """The instance's places."""
        return Site(self.context.settings, self.row)

    async def take_edge(
        self,
        edge: str,
        message: str,
        also: Callable[[Connection, int], object] | None = None,
        stamp: str = "",
        **columns: Any,
    ) -> None:
        """Take *edge* now, with *columns*, and do *also* in the same transaction.

        *stamp* names a column that gets this very instant.
        """
        at_us = self.clock()
        if stamp:
            columns[stamp] = at_us

        def write(conn: Connection) -> None:
            if also is not None:
                also(conn, at_us)
            take_edge(conn, self.row.id, edge, at_us, message, **columns)

        await self.context.write(write)

    async def write(self, work: Callable[[Connection, int], object]) -> None:
        """Do *work* now, in one transaction, without an edge."""
        at_us = self.clock()

        def write(conn: Connection) -> None:
            work(conn, at_us)
            reset_attempts(conn, self.row.id, State(self.row.actual))

        await self.context.write(write)

    async def give_up(
        self,
        edge: str,
        reason: str,
        also: Callable[[Connection, int], object] | None = None,
        cause: Cause = Cause.LAUNCH_FAILED,
    ) -> None:
        """Want the instance stopped for *reason* and take *edge* to stopping, as one."""

        def accept(conn: Connection, at_us: int) -> None:
            if also is not None:
                also(conn, at_us)
            want_stopped(conn, self.row.id, at_us, reason, cause)

        await self.take_edge(edge, "Removing what was made of the instance", accept)

    async def put_off(
        self,
        message: str,
        first_pause_s: float,
        also: Callable[[Connection, int], object] | None = None,
    ) -> None:
        """Count a failure; the pause doubles with each, up to 5 minutes.

        *message* says `{pause}` where the pause belongs.
        """
        # Bounded before it is doubled: attempts may be many.
        pause_s = min(first_pause_s * 2 ** min(self.row.attempts, 16), MAX_PAUSE_S)
        at_us = self.clock()

        def write(conn: Connection) -> None:
            if also is not None:
                also(conn, at_us)
            state = State(self.row.actual)
            told = message.replace("{pause}", f"{pause_s:g} s", 1)
            put_off(conn, self.row.id, state, at_us, pause_s, told)

        await self.context.write(write)
