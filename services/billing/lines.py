"""What is billed: a segment with its instance, and the line that it becomes."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from nightingale_hub.clock import US_PER_S
from nightingale_hub.services.billing.rating import Piece, rate_pieces
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment
from nightingale_hub.terms import USD, Terms

USAGE = "usage"  # what a customer pays by
STORAGE = "storage"  # a disk or an address that exists after the stop
CREDIT = "credit"  # time in which the platform failed
COST = "cost"  # what a cloud bills us and nobody pays; on no statement
HELD = ("disk", "address")  # the meters of what may outlive an instance
LAUNCH_ENDS = ("stop accepted", "gone", "crashed")
# The meter refines the start of a boot by later beats, but never of one that is proven so long.
SETTLED_US = 3600 * US_PER_S


@dataclass(frozen=True)
class Line:
    """One line: whole seconds at their rates, rounded once; a credit's amount is negative."""

    key: str
    kind: str
    segment_id: int
    instance_id: str
    owner: str
    cloud: str
    region: str
    terms: Terms
    start_us: int
    end_us: int
    pieces: tuple[Piece, ...]
    cause: str = ""
    at_list: tuple[Piece, ...] = ()  # what the same seconds cost us, where that is posted too

    @cached_property
    def seconds(self) -> int:
        """The seconds that are charged or credited."""
        return sum(seconds for seconds, _ in self.pieces)

    @cached_property
    def amount_micro(self) -> int:
        """The amount in micro-units of the currency."""
        amount = rate_pieces(self.pieces)
        return -amount if self.kind == CREDIT else amount

    @property
    def currency(self) -> str:
        """The currency of the amount: the customer's, but for what a cloud bills us."""
        return USD if self.kind == COST else self.terms.customer.currency

    def format_pieces(self) -> str:
        """Return the pieces as the table keeps them."""
        # As JSON, without the encoder, which takes longer than the rest of a line.
        return f"[{','.join(f'[{seconds},{nano}]' for seconds, nano in self.pieces)}]"


class Usage(NamedTuple):
    """A segment, with what is needed of its instance."""

    id: int
    instance_id: str
    meter: str
    boot_id: str
    part: int
    start_us: int
    seen_us: int
    end_us: int | None
    cause: str
    instance_type: str
    cpu: str
    gpu: str
    disk: str
    nano_usd_per_hour: int
    owner: str
    server_name: str
    cloud: str
    region: str
    created_us: int
    stop_accepted_us: int | None
    gone_us: int | None

    @property
    def stop_us(self) -> int | None:
        """Until when the rate of the instance pays for its disk and address; None while it runs."""
        ends = [at for at in (self.stop_accepted_us, self.gone_us) if at is not None]
        return min(ends, default=None)

    def end(self, at_us: int) -> "Usage":
        """Return it as it would be if it ended at *at_us*, or at the end that the record has."""
        known = (self.end_us, self.stop_accepted_us, self.gone_us)
        ends = [at for at in known if at is not None]
        if not ends or min(ends) > at_us:
            return self._replace(end_us=max(self.start_us, at_us), cause="")
        if self.end_us is not None:
            return self
        return self._replace(end_us=max(self.start_us, min(ends)), cause="gone")


OF_SEGMENT = Usage._fields[: Usage._fields.index("owner")]
OF_INSTANCE = Usage._fields[Usage._fields.index("owner") :]


def list_usage(
    conn: Connection, condition: ColumnElement[bool], after_id: int = 0, limit: int = 500
) -> list[Usage]:
    """Return segments that meet *condition*, by id."""
    rows = conn.execute(
        select(
            *(segment.c[name] for name in OF_SEGMENT), *(instance.c[name] for name in OF_INSTANCE)
        )
        .join(instance, instance.c.id == segment.c.instance_id)
        .where(condition, segment.c.id > after_id)
        .order_by(segment.c.id)
        .limit(limit)
    )
    return [Usage._make(row) for row in rows]
