"""Holds: money kept for an instance before it may cost any, extended while it runs.

A launch is held for its minimum, ten minutes and a stop; while the instance runs, the hold is kept
twenty minutes ahead of it. What a budget cannot give any more is known that long before: its owner
is warned, and in the end the instance is made small or stopped while the hold still pays, so that
what is posted never passes a limit.
"""

from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub import instances
from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import OverBudget
from nightingale_hub.instances import ENDED
from nightingale_hub.offers import Size, list_skus
from nightingale_hub.services.billing.alerts import note_alerts, tell_alert
from nightingale_hub.services.billing.budgets import list_live_holds, stand
from nightingale_hub.services.billing.members import find_project
from nightingale_hub.services.billing.payer import lock_customer
from nightingale_hub.services.billing.prices import find_steps
from nightingale_hub.services.billing.reach import AHEAD_S, SLACK_MICRO, launch_seconds, price_of
from nightingale_hub.services.billing.room import find_room
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.budgets import hold
from nightingale_hub.tables.metering import holding, segment
from nightingale_hub.terms import USD, Customer, Terms, resolve_terms

# Disks that outlive an instance are held for this long beyond it.
DISK_S = 24 * 3600


@dataclass(frozen=True)
class Quote:
    """What an instance would cost and what would be held for it."""

    pays: Customer
    project: str
    nano_per_hour: int
    seconds: int
    disk_micro: int

    @property
    def amount_micro(self) -> int:
        """What is held at the launch."""
        return price_of(self.seconds, self.nano_per_hour) + self.disk_micro + SLACK_MICRO


def quote(conn: Connection, row: Any, terms: Terms, at_us: int) -> Quote:
    """Return what *row*, an instance's record or one to be, costs and would have held."""
    nano = find_rate(conn, row, terms, at_us)
    disk = 0
    if terms.plan.bills_storage:
        disk = price_of(DISK_S, _disk_rate(conn, row, terms, at_us))
    project = find_project(conn, terms.customer.id, row.owner, at_us)
    return Quote(terms.customer, project, nano, launch_seconds(terms.plan.minimum_s), disk)


def find_rate(conn: Connection, row: Any, terms: Terms, at_us: int) -> int:
    """Return what an hour of *row* costs the customer at most, from *at_us* on."""
    plan, currency = terms.plan, terms.customer.currency
    if plan.price == "shown" and currency == USD:
        return plan.mark_up(row.nano_usd_per_hour)
    skus = list_skus(row.cloud, row.instance_type, Size(row.cpu, row.gpu, row.disk))
    steps = find_steps(conn, row.cloud, row.region, skus, currency)
    in_force = [nano for from_us, nano in steps if from_us <= at_us][-1:]
    to_come = [nano for from_us, nano in steps if from_us > at_us]
    return plan.mark_up(max([*in_force, *to_come]))


def ask(conn: Connection, instance_id: str, at_us: int) -> Row[Any]:
    """Hold the money for a launch, once; return the hold.

    Asked again it is the same hold. Raises `NotFound` for an unknown instance, `OverBudget` when a
    budget or the credit has not enough, saying which and how much is left.
    """
    row = instances.get(conn, instance_id)
    known = find_hold(conn, instance_id)
    if known is not None:
        return known
    terms = resolve_terms(conn, row.owner, row.created_us)
    lock_customer(conn, terms.customer, at_us)
    asked = quote(conn, row, terms, at_us)
    room = find_room(conn, asked.pays, row, asked.project, asked.nano_per_hour, at_us)
    if asked.amount_micro > room.micro:
        for each in room.standings:
            note_alerts(conn, each, at_us, is_cut=each is room.limiting)
        raise OverBudget(
            f"the money for {row.id} cannot be held: {room.because}; choose a smaller size, or ask "
            "whoever manages the budget"
        )
    conn.execute(
        insert(hold).values(
            instance_id=row.id,
            customer=asked.pays.id,
            owner=row.owner,
            project=asked.project,
            currency=asked.pays.currency,
            nano_per_hour=asked.nano_per_hour,
            seconds=asked.seconds,
            disk_micro=asked.disk_micro,
            state="held",
            created_us=at_us,
            changed_us=at_us,
        )
    )
    for each in room.standings:
        fresh = stand(conn, each.row, at_us)
        new = note_alerts(conn, fresh, at_us)
        if new:
            tell_alert(conn, fresh, new[-1], row.owner, at_us)
    made = find_hold(conn, instance_id)
    assert made is not None
    return made


@dataclass(frozen=True)
class Wanted:
    """What a resize will make of an instance, as far as it is paid for."""

    size: Size
    instance_type: str
    nano_usd_per_hour: int


def ask_resize(conn: Connection, instance_id: str, wanted: Wanted, at_us: int) -> Row[Any]:
    """Hold the money that an instance will need at another size, before it gets it.

    As far ahead as while it runs; a cheaper size changes nothing. Raises as `ask`.
    """
    row, kept = instances.get(conn, instance_id), ask(conn, instance_id, at_us)
    terms = resolve_terms(conn, row.owner, row.created_us)
    lock_customer(conn, terms.customer, at_us)
    nano = find_rate(conn, resized(row, wanted), terms, at_us)
    if nano <= kept.nano_per_hour:
        return kept
    room = find_room(conn, terms.customer, row, kept.project, nano, at_us)
    elapsed = max(0, -(-(at_us - (row.ready_us or at_us)) // US_PER_S))
    seconds = max(kept.seconds, elapsed + AHEAD_S)
    [posted] = [
        int(each.posted_s)
        for each in list_live_holds(conn, kept.customer)
        if each.instance_id == instance_id
    ]
    if price_of(max(0, seconds - posted), nano) + kept.disk_micro + SLACK_MICRO > room.micro:
        raise OverBudget(
            f"the money for {instance_id} at {wanted.size} cannot be held: {room.because}; choose "
            "a smaller size, or ask whoever manages the budget"
        )
    conn.execute(
        update(hold)
        .where(hold.c.instance_id == instance_id)
        .values(seconds=seconds, nano_per_hour=nano, changed_us=at_us)
    )
    made = find_hold(conn, instance_id)
    assert made is not None
    return made


def resized(row: Row[Any], wanted: Wanted) -> Any:
    """Return instance *row* as it will be, with the type that a cloud prices it by."""
    kept = {name: value for name, value in vars(wanted).items() if name != "size"}
    return SimpleNamespace(**{**row._mapping, **asdict(wanted.size), **kept})


def find_hold(conn: Connection, instance_id: str) -> Row[Any] | None:
    """Return the hold of an instance, or None."""
    return conn.execute(select(hold).where(hold.c.instance_id == instance_id)).one_or_none()


def paid_until_us(row: Row[Any], kept: Row[Any]) -> int | None:
    """Return until when hold *kept* pays for instance *row*; None before it is ready."""
    if row.ready_us is None:
        return None
    return int(row.ready_us) + int(kept.seconds) * US_PER_S


def describe(row: Row[Any], kept: Row[Any]) -> dict[str, Any]:
    """Return a hold fit for JSON."""
    amount = price_of(kept.seconds, kept.nano_per_hour) + kept.disk_micro
    return {**to_dict(kept), "amount_micro": amount, "paid_until_us": paid_until_us(row, kept)}


def release_if_over(conn: Connection, row: Row[Any], kept: Row[Any], at_us: int) -> bool:
    """Shrink the hold of an instance whose stop is accepted; release it once all is posted.

    Returns whether the instance has ended.
    """
    ends = [each for each in (row.stop_accepted_us, row.gone_us) if each is not None]
    if not ends and row.actual not in ENDED:
        return False
    return _settle(conn, row, kept, min(ends, default=at_us), at_us)


def _settle(conn: Connection, row: Row[Any], kept: Row[Any], end_us: int, at_us: int) -> bool:
    seconds = 0
    if row.ready_us is not None:
        # Each part of a boot begins a second; ten cover any that could be.
        seconds = max(0, -(-(end_us - row.ready_us) // US_PER_S)) + 10
    terms = resolve_terms(conn, row.owner, row.created_us)
    seconds = min(kept.seconds, max(seconds, terms.plan.minimum_s if row.ready_us else 0))
    is_over = row.actual in ENDED and not _has_unposted(conn, row.id, terms.plan.basis)
    has_disk = terms.plan.bills_storage and _has_disk(conn, row.id)
    values: dict[str, Any] = {"seconds": seconds}
    if is_over:
        values = {"seconds": 0} if has_disk else {"seconds": 0, "disk_micro": 0}
        values["state"] = "stopped" if has_disk else "released"
    if any(getattr(kept, name) != value for name, value in values.items()):
        conn.execute(
            update(hold)
            .where(hold.c.instance_id == row.id)
            .values(changed_us=at_us, stop_us=None, **values)
        )
    return True


def _has_unposted(conn: Connection, instance_id: str, basis: str) -> bool:
    found = conn.execute(
        select(segment.c.id)
        .outerjoin(line_item, line_item.c.segment_id == segment.c.id)
        .where(
            segment.c.instance_id == instance_id,
            segment.c.meter == basis,
            segment.c.end_us.is_(None) | line_item.c.id.is_(None),
        )
    ).first()
    return found is not None


def _has_disk(conn: Connection, instance_id: str) -> bool:
    found = conn.execute(
        select(holding.c.resource_id).where(
            holding.c.instance_id == instance_id, holding.c.until_us.is_(None)
        )
    ).first()
    return found is not None


def _disk_rate(conn: Connection, row: Any, terms: Terms, at_us: int) -> int:
    steps = find_steps(conn, row.cloud, row.region, [f"disk.{row.disk}"], terms.customer.currency)
    return terms.plan.mark_up(max(nano for _, nano in steps))


def to_dict(kept: Row[Any]) -> dict[str, Any]:
    """Return what a hold's row says, fit for JSON."""
    names = (
        "instance_id customer owner project currency nano_per_hour seconds disk_micro state "
        "created_us changed_us stop_us"
    ).split()
    return {name: getattr(kept, name) for name in names}
