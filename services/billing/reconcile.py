"""Holds the clouds' bills against what was metered: orphans, phantoms and drift, day by day.

What a cloud bills and nobody metered is an orphan: an alarm. What was metered and no cloud bills
is a phantom: it blocks the customer's invoice. Both, but not the same, is drift.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from nightingale_hub.clock import US_PER_S, to_datetime
from nightingale_hub.findings import FindingState, Severity, find_by_key, raise_finding
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.money import divide
from nightingale_hub.services.billing.bills import DAY_US, Charge, parse_bill
from nightingale_hub.services.billing.provider_credit import burn_provider_credit
from nightingale_hub.services.billing.providers import get_provider
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import holding, segment
from nightingale_hub.tables.reconciliation import bill_charge, bill_day, bill_import
from nightingale_hub.terms import USD

SECONDS_PER_START = 2  # how far apart theirs and ours may be
PPM_OF_COST = 5_000
LEAST_MICRO = 10_000
MICRO = Decimal(1_000_000)


@dataclass
class Metered:
    """What was metered of one instance on one day, by the cloud's own meter."""

    owner: str
    micro_usd: int = 0
    us: int = 0
    starts: int = 0


def import_bill(
    conn: Connection, name: str, content: bytes, actor: str, at_us: int
) -> dict[str, Any]:
    """Take a cloud's bill in and compare each day that it has; the same file again is nothing new.

    The newest file that has a day of a cloud is what counts for it. Raises `BadInput` or
    `TooLarge`, changing nothing.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    if conn.execute(select(bill_import.c.id).where(bill_import.c.sha256 == sha256)).first():
        return {"is_new": False, "days": []}
    dialect, charges = parse_bill(content)
    written = conn.execute(
        insert(bill_import).values(
            sha256=sha256, name=name[:200], dialect=dialect, rows=len(charges), actor=actor,
            at_us=at_us,
        )
    )  # fmt: skip
    assert written.inserted_primary_key is not None
    days = sorted({(charge.cloud, charge.day_us) for charge in charges})
    for cloud, day_us in days:
        conn.execute(
            delete(bill_charge).where(bill_charge.c.cloud == cloud, bill_charge.c.day_us == day_us)
        )
    rows = _sum(charges, written.inserted_primary_key[0])
    if rows:
        conn.execute(insert(bill_charge), rows)
    for cloud in sorted({cloud for cloud, _ in days}):
        burn_provider_credit(conn, cloud, at_us)
    append_leaf(conn, "bill", {"sha256": sha256, "by": actor, "rows": len(charges)}, at_us)
    compared = [compare_day(conn, cloud, day_us, at_us) for cloud, day_us in days]
    return {"is_new": True, "days": compared}


def compare_day(conn: Connection, cloud: str, day_us: int, at_us: int) -> dict[str, Any]:
    """Compare one day of a cloud, raise what is found, and publish the day; return it."""
    theirs = conn.execute(
        select(bill_charge)
        .where(bill_charge.c.cloud == cloud, bill_charge.c.day_us == day_us)
        .order_by(bill_charge.c.resource_id, bill_charge.c.kind)
    ).all()
    ours = find_metered(conn, cloud, day_us)
    held = _list_held(conn, day_us)
    compute: dict[str, list[Row[Any]]] = defaultdict(list)
    orphans, drifts = [], []
    for row in theirs:
        key = row.instance_id or row.resource_id
        if key not in ours and row.resource_id not in held:
            orphans.append(row.resource_id)
            _raise(conn, "bill_orphan", Severity.HIGH, row.resource_id, row, {}, at_us)
        elif row.kind == "compute" and key in ours:
            compute[key].append(row)
    for key, rows in compute.items():
        if _is_drift(rows, ours[key]):
            drifts.append(key)
            said = {"ours_micro": ours[key].micro_usd, "ours_us": ours[key].us}
            _raise(conn, "bill_drift", Severity.MEDIUM, key, rows[0], said, at_us)
    phantoms = [key for key, each in ours.items() if key not in compute and each.us > _slack(each)]
    for key in phantoms:
        _raise(conn, "bill_phantom", Severity.HIGH, key, None, _day(cloud, day_us), at_us)
    in_usd = [row for row in theirs if row.currency == USD]
    values = {
        "theirs_micro": sum(row.cost_micro for row in in_usd if row.kind == "compute"),
        "ours_micro": sum(each.micro_usd for each in ours.values()),
        "theirs_s": sum(row.seconds or 0 for row in theirs),
        "ours_s": sum(each.us for each in ours.values()) // US_PER_S,
        "orphans": len(orphans),
        "phantoms": len(phantoms),
        "drifts": len(drifts),
        "at_us": at_us,
    }
    key_of = {"cloud": cloud, "day_us": day_us, "currency": USD}
    conn.execute(delete(bill_day).where(*(bill_day.c[name] == key_of[name] for name in key_of)))
    conn.execute(insert(bill_day).values(**key_of, **values))
    return {**key_of, **values}


def _list_held(conn: Connection, day_us: int) -> set[str]:
    """Return the disks and addresses that are on record for a day, by the cloud's names."""
    return set(
        conn.execute(
            select(holding.c.resource_id).where(
                holding.c.from_us < day_us + DAY_US,
                holding.c.until_us.is_(None) | (holding.c.until_us > day_us),
            )
        ).scalars()
    )


def find_metered(conn: Connection, cloud: str, day_us: int) -> dict[str, Metered]:
    """Return what was metered as allocated on a day of a cloud, by instance."""
    end_us = day_us + DAY_US
    rows = conn.execute(
        select(segment, instance.c.owner)
        .join(instance, instance.c.id == segment.c.instance_id)
        .where(
            instance.c.cloud == cloud,
            segment.c.meter == "allocated",
            segment.c.start_us < end_us,
            func.coalesce(segment.c.end_us, segment.c.seen_us) > day_us,
        )
        .order_by(segment.c.id)
    )
    least_us = get_provider(cloud).minimum_s * US_PER_S
    found: dict[str, Metered] = {}
    for row in rows:
        each = found.setdefault(row.instance_id, Metered(row.owner))
        last_us = row.seen_us if row.end_us is None else row.end_us
        us = min(end_us, last_us) - max(day_us, row.start_us)
        if row.start_us >= day_us:
            each.starts += 1
            if row.end_us is not None and row.part == 0:
                us = max(us, least_us)
        each.us += us
        each.micro_usd += divide(us * row.nano_usd_per_hour, 3_600 * 1_000 * US_PER_S)
    return found


def list_days(conn: Connection, limit: int = 400) -> list[dict[str, Any]]:
    """Return every compared day, newest first, with how far theirs is from ours."""
    rows = conn.execute(
        select(bill_day).order_by(bill_day.c.day_us.desc(), bill_day.c.cloud).limit(limit)
    )
    return [
        {
            **row._mapping,
            "day": to_datetime(row.day_us).strftime("%Y-%m-%d"),
            "drift_micro": row.theirs_micro - row.ours_micro,
        }
        for row in rows
    ]


def list_phantoms(conn: Connection, owners: Iterable[str], before_us: int) -> list[str]:
    """Return instances of *owners* that were metered on a billed day and that no cloud bills.

    But for those whose finding somebody has closed.
    """
    mine = set(owners)
    days = conn.execute(
        select(bill_day.c.cloud, bill_day.c.day_us).where(
            bill_day.c.phantoms > 0, bill_day.c.day_us < before_us
        )
    ).all()
    phantoms = set()
    for cloud, day_us in days:
        billed = set(
            conn.execute(
                select(bill_charge.c.instance_id).where(
                    bill_charge.c.cloud == cloud,
                    bill_charge.c.day_us == day_us,
                    bill_charge.c.kind == "compute",
                )
            ).scalars()
        )
        for key, each in find_metered(conn, cloud, day_us).items():
            if each.owner in mine and key not in billed and each.us > _slack(each):
                raised = find_by_key(
                    conn, _key("bill_phantom", _day(cloud, day_us), key, "compute")
                )
                if raised is None or raised.state != FindingState.CLOSED:
                    phantoms.add(key)
    return sorted(phantoms)


def _is_drift(rows: list[Row[Any]], metered: Metered) -> bool:
    if all(row.seconds is not None for row in rows):
        apart_us = abs(sum(row.seconds for row in rows) * US_PER_S - metered.us)
        if apart_us > _slack(metered):
            return True
    theirs = sum(row.cost_micro for row in rows if row.currency == USD)
    allowed = max(LEAST_MICRO, metered.micro_usd * PPM_OF_COST // 1_000_000)
    return bool(abs(theirs - metered.micro_usd) > allowed)


def _slack(metered: Metered) -> int:
    return SECONDS_PER_START * US_PER_S * max(1, metered.starts)


def _raise(
    conn: Connection,
    kind: str,
    severity: Severity,
    subject: str,
    row: Row[Any] | None,
    said: dict[str, Any],
    at_us: int,
) -> None:
    theirs = {} if row is None else _describe(row)
    evidence = {**theirs, **said}
    key = _key(kind, evidence, subject, str(theirs.get("use", "compute")))
    raise_finding(
        conn, key=key, kind=kind, severity=severity, subject=f"resource:{subject}",
        evidence=evidence, at_us=at_us,
    )  # fmt: skip


def _key(kind: str, day: Mapping[str, Any], subject: str, use: str) -> str:
    return f"{kind}:{day['cloud']}:{day['day']}:{subject}:{use}"


def _describe(row: Row[Any]) -> dict[str, Any]:
    said = {"use": row.kind, "resource": row.resource_id, "instance": row.instance_id}
    said |= {"cost_micro": row.cost_micro, "currency": row.currency}
    return {**_day(row.cloud, row.day_us), **said}


def _day(cloud: str, day_us: int) -> dict[str, Any]:
    return {"cloud": cloud, "day": to_datetime(day_us).strftime("%Y-%m-%d")}


def _sum(charges: Iterable[Charge], import_id: int) -> list[dict[str, Any]]:
    costs: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    seconds: dict[tuple[Any, ...], Decimal | None] = {}
    tags: dict[tuple[Any, ...], str] = {}
    for each in charges:
        key = (each.cloud, each.day_us, each.resource_id, each.kind, each.currency)
        costs[key] += each.cost
        before = seconds.get(key, Decimal(0))
        known = before is not None and each.seconds is not None
        seconds[key] = before + each.seconds if known else None  # type: ignore[operator]
        tags[key] = each.instance_id or tags.get(key, "")
    names = ("cloud", "day_us", "resource_id", "kind", "currency")
    return [
        {
            **dict(zip(names, key, strict=True)),
            "import_id": import_id,
            "instance_id": tags[key],
            "cost_micro": int((cost * MICRO).to_integral_value(ROUND_HALF_EVEN)),
            "seconds": _to_whole(seconds[key]),
        }
        for key, cost in costs.items()
    ]


def _to_whole(value: Decimal | None) -> int | None:
    return None if value is None else int(value.to_integral_value(ROUND_HALF_EVEN))
