"""The segment table, and the part of the instance record that the meter reads.

Only metering writes segments, one write at a time. A row that has an end is left as it is, even
by a statement that comes late.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, insert, or_, select, update

from nightingale_hub.instances import ENDED, Cause
from nightingale_hub.services.metering.rules import Holding, Proof, Record, find_changes, is_newer
from nightingale_hub.services.metering.segment import (
    ALLOCATED,
    GONE,
    Key,
    Segment,
    Shape,
    is_checkpoint,
)
from nightingale_hub.services.metering.steady import COLUMNS, Shifts
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import (
    clock_event,
    clock_shift,
    holding,
    provider_stop,
    segment,
)
from nightingale_hub.tables.supervision import shape

Proofs = Mapping[str, Mapping[str, Proof]]  # by instance id, then by boot id


# Causes of a stop that nobody asked for: it was over before anyone saw.
DIED = (Cause.CRASHED, Cause.PREEMPTED)
# Clouds that bill for an instance only while it runs. The others bill until it is removed.
# ref: https://aws.amazon.com/ec2/pricing/on-demand/
# ref: https://cloud.google.com/compute/docs/instances/instance-life-cycle
# ref: https://learn.microsoft.com/azure/virtual-machines/states-billing
BILLS_RUNNING_ONLY = ("aws", "gcp", "gcp_cloud_run")


@dataclass(frozen=True)
class Facts:
    """What else is recorded of an instance: its shapes, its holdings, what the cloud says."""

    shapes: tuple[tuple[int, Shape], ...] = ()
    stops: Mapping[str, int] = field(default_factory=dict)
    holdings: tuple[Holding, ...] = ()
    shifts: Shifts = field(default_factory=lambda: Shifts([]))


@dataclass(frozen=True)
class Metered:
    """An instance, with the segments that are stored for it."""

    row: Row[Any]
    segments: tuple[Segment, ...]
    facts: "Facts"

    @property
    def record(self) -> Record:
        """What the meter needs of the row."""
        times = {
            name: self.facts.shifts.take_back(name, getattr(self.row, name)) for name in COLUMNS
        }
        return Record(
            boot_id=self.row.boot_id,
            **times,
            is_crashed=self.row.cause in DIED,
            bills_stopped=self.row.cloud not in BILLS_RUNNING_ONLY,
            shapes=self.facts.shapes or ((0, _shape(self.row)),),
            stops=self.facts.stops,
            holdings=self.facts.holdings,
        )

    def changes(self, proofs: Proofs) -> dict[Key, Segment]:
        """Return what *proofs* and the record change in the stored segments."""
        known = proofs.get(self.row.id, {}).values()
        return find_changes(self.record, map(self._take_back, known), self.segments)

    def after(self, proofs: Proofs) -> tuple[Segment, ...]:
        """Return the segments as they are once `changes` is stored."""
        stored = {each.key: each for each in self.segments}
        return tuple({**stored, **self.changes(proofs)}.values())

    def may_follow(self, proofs: Proofs, proof: Proof) -> bool:
        """Tell whether *proof* is of a boot that follows the one that is metered now."""
        return is_newer(self.record, self.after(proofs), self._take_back(proof))

    def _take_back(self, proof: Proof) -> Proof:
        return replace(proof, started_us=proof.started_us - self.facts.shifts.total_us)

    def needs_writing(self, proofs: Proofs) -> bool:
        """Tell whether a segment opened or ended: more than what a checkpoint would add."""
        stored = {each.key: each for each in self.segments}
        return any(
            not is_checkpoint(stored.get(key), each) for key, each in self.changes(proofs).items()
        )


def list_metered(conn: Connection, since_us: int) -> list[Metered]:
    """Return each instance that is not gone, or went after *since_us* and is still open here."""
    is_closed = exists().where(
        segment.c.instance_id == instance.c.id,
        segment.c.meter == ALLOCATED,
        segment.c.cause == GONE,
    )
    # Both meters of an instance that is gone end in one transaction, so one stands for both.
    went = and_(instance.c.gone_us >= since_us, ~is_closed)
    # A disk or an address may outlive its instance; what is written of it already needs no look.
    held = (
        select(holding.c.instance_id)
        .outerjoin(
            segment,
            (segment.c.instance_id == holding.c.instance_id)
            & (segment.c.meter == holding.c.kind)
            & (segment.c.boot_id == holding.c.resource_id)
            & (segment.c.start_us == holding.c.from_us),
        )
        .where(
            segment.c.id.is_(None) | (segment.c.end_us.is_(None) & holding.c.until_us.is_not(None))
        )
    )
    return _list(conn, or_(instance.c.actual.not_in(ENDED), went, instance.c.id.in_(held)))


def find_metered(conn: Connection, instance_id: str) -> Metered | None:
    """Return one instance, or None."""
    return next(iter(_list(conn, instance.c.id == instance_id)), None)


def store(conn: Connection, instance_ids: Collection[str], proofs: Proofs) -> int:
    """Bring the segments of the named instances up to date; return how many rows were written.

    Reads record and segments anew in *conn*'s transaction, so it may be repeated at any time.
    """
    written = 0
    for each in _list(conn, instance.c.id.in_(instance_ids)):
        for changed in each.changes(proofs).values():
            _put(conn, each.row.id, changed)
            written += 1
    return written


def _list(conn: Connection, condition: Any) -> list[Metered]:
    rows = conn.execute(select(instance).where(condition).order_by(instance.c.created_us)).all()
    chosen = select(instance.c.id).where(condition)
    stored: dict[str, list[Segment]] = defaultdict(list)
    for row in conn.execute(
        select(segment).where(segment.c.instance_id.in_(chosen)).order_by(segment.c.id)
    ):
        stored[row.instance_id].append(
            Segment(
                row.meter,
                row.boot_id,
                row.start_us,
                row.seen_us,
                row.end_us,
                row.cause,
                row.part,
                _shape(row),
            )
        )
    facts = _list_facts(conn, chosen)
    return [Metered(row, tuple(stored[row.id]), facts.get(row.id, Facts())) for row in rows]


def _list_facts(conn: Connection, chosen: Select[tuple[str]]) -> dict[str, Facts]:
    shapes: dict[str, list[tuple[int, Shape]]] = defaultdict(list)
    stops: dict[str, dict[str, int]] = defaultdict(dict)
    holdings: dict[str, list[Holding]] = defaultdict(list)
    steps: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in conn.execute(
        select(clock_event.c.step_us, clock_shift)
        .join(clock_event, clock_event.c.id == clock_shift.c.clock_event_id)
        .where(clock_shift.c.instance_id.in_(chosen))
        .order_by(clock_event.c.id)
    ):
        steps[row.instance_id].append((row.step_us, row.known))
    shifts = {key: Shifts(each) for key, each in steps.items()}
    for row in conn.execute(
        select(shape).where(shape.c.instance_id.in_(chosen)).order_by(shape.c.id)
    ):
        known, from_us = shapes[row.instance_id], row.effective_us
        if row.instance_id in shifts:
            from_us = shifts[row.instance_id].take_back_shape(len(known), from_us)
        known.append((from_us, _shape(row)))
    for row in conn.execute(select(provider_stop).where(provider_stop.c.instance_id.in_(chosen))):
        stops[row.instance_id][row.boot_id] = row.at_us
    for row in conn.execute(
        select(holding).where(holding.c.instance_id.in_(chosen)).order_by(holding.c.from_us)
    ):
        held = Holding(row.kind, row.resource_id, row.from_us, row.until_us)
        holdings[row.instance_id].append(held)
    return {
        key: Facts(
            tuple(shapes[key]), stops[key], tuple(holdings[key]), shifts.get(key, Shifts([]))
        )
        for key in {*shapes, *stops, *holdings, *shifts}
    }


def _shape(row: Row[Any]) -> Shape:
    return Shape(row.instance_type, row.cpu, row.gpu, row.disk, row.nano_usd_per_hour)


def _put(conn: Connection, instance_id: str, changed: Segment) -> None:
    key = and_(
        segment.c.instance_id == instance_id,
        segment.c.meter == changed.meter,
        segment.c.boot_id == changed.boot_id,
        segment.c.part == changed.part,
    )
    values = asdict(changed)
    values |= values.pop("shape")
    known = conn.execute(select(segment.c.id).where(key)).first()
    if known is None:
        conn.execute(insert(segment).values(instance_id=instance_id, **values))
    else:
        conn.execute(update(segment).where(key, segment.c.end_us.is_(None)).values(**values))
