"""From an ended segment to its lines: who pays, how many seconds, at which rates. Reads only.

The seconds of a boot are counted up once and then belong whole to one part (a resize), one month
and one price each, so that however a span is cut, no second is lost or charged twice.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.clock import US_PER_S, month_bounds_us, to_datetime
from nightingale_hub.offers import Size, list_skus
from nightingale_hub.services.billing.lines import (
    COST,
    CREDIT,
    HELD,
    LAUNCH_ENDS,
    STORAGE,
    USAGE,
    Line,
    Usage,
)
from nightingale_hub.services.billing.prices import find_steps
from nightingale_hub.services.billing.providers import get_provider
from nightingale_hub.services.billing.rating import Steps, count_before, count_seconds, split
from nightingale_hub.tables.metering import holding, segment
from nightingale_hub.terms import USD, Terms, resolve_terms


class Rater:
    """Makes the lines of segments, remembering who pays between them; for one transaction."""

    def __init__(self, conn: Connection) -> None:
        """Read from *conn*'s transaction."""
        self._conn = conn
        self._terms: dict[tuple[str, int], Terms] = {}
        self._steps: dict[tuple[Any, ...], Steps] = {}

    def find_terms(self, owner: str, created_us: int) -> Terms:
        """Return who pays for a launch, and by which plan; raises `NotFound`."""
        key = (owner, created_us)
        if key not in self._terms:
            self._terms[key] = resolve_terms(self._conn, owner, created_us)
        return self._terms[key]

    def make_lines(self, row: Usage, until_us: int | None = None) -> list[Line]:
        """Return the lines of the segment *row*, one for each month.

        Of one that has no end only the months that are over at *until_us*. Of a disk or an address
        none before its instance stops, for until then it is free. Raises `NotFound` for a plan or
        a price that is not there.
        """
        stop_us = row.stop_us if row.meter in HELD else row.start_us
        if stop_us is None:
            return []
        terms = self.find_terms(row.owner, row.created_us)
        kind = self._kind(row, terms)
        if kind == COST:
            return [] if row.end_us is None else [self._cost(row, terms)]
        begin_us = self._begin(row)
        end_us = row.end_us if row.end_us is not None else until_us
        assert end_us is not None
        end_us = max(end_us, row.start_us)
        start_us = min(max(row.start_us, stop_us), end_us)
        first, last = count_seconds(begin_us, start_us), count_seconds(begin_us, end_us)
        if kind == USAGE and row.end_us is not None and terms.plan.minimum_s:
            last += self._missing_seconds(row, terms, last - first)
        steps = self._rates(row, terms, kind)
        return [
            Line(
                key=f"segment:{row.id}" if low == first else f"segment:{row.id}:{low}",
                kind=kind,
                segment_id=row.id,
                instance_id=row.instance_id,
                owner=row.owner,
                cloud=row.cloud,
                region=row.region,
                terms=terms,
                start_us=start_us if low == first else begin_us + low * US_PER_S,
                end_us=end_us if high == last else begin_us + high * US_PER_S,
                pieces=split(begin_us, low, high, steps),
            )
            for low, high in _cut_at_months(begin_us, first, last)
            # The month in which an open segment is now goes on.
            if row.end_us is not None or high != last
        ]

    def make_credit(self, row: Usage, fault: Row[Any], taken: Iterable[Row[Any]]) -> Line:
        """Return the credit for *fault* in the ended segment *row*, without what *taken* gave."""
        assert row.end_us is not None
        terms = self.find_terms(row.owner, row.created_us)
        begin_us = self._begin(row)
        first, last = count_seconds(begin_us, row.start_us), count_seconds(begin_us, row.end_us)
        low, high = (
            max(first, count_before(begin_us, last, at_us))
            for at_us in (fault.start_us, fault.end_us)
        )
        spans = [(low, high)]
        for each in taken:
            bounds = [count_before(begin_us, last, at_us) for at_us in (each.start_us, each.end_us)]
            spans = [part for span in spans for part in _without(span, bounds[0], bounds[1])]
        steps = self._rates(row, terms, USAGE)
        pieces = [piece for span in spans for piece in split(begin_us, *span, steps)]
        seconds = sum(high - low for low, high in spans)
        return Line(
            key=f"credit:{row.id}:{fault.cause}:{fault.start_us}",
            kind=CREDIT,
            segment_id=row.id,
            instance_id=row.instance_id,
            owner=row.owner,
            cloud=row.cloud,
            region=row.region,
            terms=terms,
            start_us=max(row.start_us, fault.start_us),
            end_us=max(row.start_us, min(row.end_us, fault.end_us)),
            pieces=tuple(pieces) or ((0, steps[-1][1]),),
            cause=fault.cause,
            at_list=((seconds, row.nano_usd_per_hour),),
        )

    def _kind(self, row: Usage, terms: Terms) -> str:
        if row.meter == terms.plan.basis:
            return USAGE
        is_stored = row.meter in ("disk", "address") and terms.plan.bills_storage
        return STORAGE if is_stored else COST

    def _begin(self, row: Usage) -> int:
        # Where the seconds of its boot are counted from.
        if row.part == 0:
            return int(row.start_us)
        return int(
            self._conn.execute(
                select(segment.c.start_us).where(
                    segment.c.instance_id == row.instance_id,
                    segment.c.meter == row.meter,
                    segment.c.boot_id == row.boot_id,
                    segment.c.part == 0,
                )
            ).scalar_one()
        )

    def _rates(self, row: Usage, terms: Terms, kind: str) -> Steps:
        plan, currency = terms.plan, terms.customer.currency
        size = Size(row.cpu, row.gpu, row.disk)
        if kind == STORAGE:
            skus = [self._sku(row)]
        elif plan.price == "shown" and currency == USD:
            return [(0, plan.mark_up(row.nano_usd_per_hour))]
        else:
            skus = list_skus(row.cloud, row.instance_type, size)
        key = (row.cloud, row.region, *skus, currency)
        if key not in self._steps:
            self._steps[key] = find_steps(self._conn, row.cloud, row.region, skus, currency)
        steps = [(from_us, plan.mark_up(nano)) for from_us, nano in self._steps[key]]
        if plan.price == "shown":
            return [[each for each in steps if each[0] <= max(0, row.created_us)][-1]]
        return steps

    def _sku(self, row: Usage) -> str:
        sku = self._conn.execute(
            select(holding.c.sku).where(
                holding.c.kind == row.meter,
                holding.c.resource_id == row.boot_id,
                holding.c.from_us == row.start_us,
            )
        ).scalar()
        return f"{row.meter}.{row.disk}" if sku is None else str(sku)

    def _missing_seconds(self, row: Usage, terms: Terms, seconds: int) -> int:
        """Return what the launch lacks of the plan's minimum, once it has ended."""
        if row.cause not in LAUNCH_ENDS or terms.plan.minimum_s <= seconds:
            return 0
        seconds += sum(own for _, own, key in self._siblings(row, row.meter) if key != row.id)
        return max(0, terms.plan.minimum_s - seconds)

    def _siblings(self, row: Usage, meter: str) -> list[tuple[int, int, int]]:
        """Return (first second's start, seconds, id) of each ended segment of *meter*."""
        first = segment.alias("first")
        rows = self._conn.execute(
            select(segment.c.id, segment.c.start_us, segment.c.end_us, first.c.start_us)
            .join(
                first,
                (first.c.instance_id == segment.c.instance_id)
                & (first.c.meter == segment.c.meter)
                & (first.c.boot_id == segment.c.boot_id)
                & (first.c.part == 0),
            )
            .where(
                segment.c.instance_id == row.instance_id,
                segment.c.meter == meter,
                segment.c.end_us.is_not(None),
            )
        )
        siblings = []
        for key, start_us, end_us, begin_us in rows:
            low, high = count_seconds(begin_us, start_us), count_seconds(begin_us, end_us)
            siblings.append((begin_us + low * US_PER_S, high - low, key))
        return siblings

    def _cost(self, row: Usage, terms: Terms) -> Line:
        """Return what the cloud bills us for an ended segment and no customer pays."""
        assert row.end_us is not None
        begin_us = self._begin(row)
        first, last = count_seconds(begin_us, row.start_us), count_seconds(begin_us, row.end_us)
        seconds = last - first
        rate = row.nano_usd_per_hour
        if row.meter == "allocated":
            if row.cause in LAUNCH_ENDS:
                whole = count_seconds(begin_us, row.end_us)
                seconds += max(0, get_provider(row.cloud).minimum_s - whole)
            for at_us, own, _ in self._siblings(row, terms.plan.basis):
                seconds -= count_before(at_us, own, row.end_us)
                seconds += count_before(at_us, own, row.start_us)
        elif row.meter == "ready":
            seconds = 0
        else:
            rate = find_steps(self._conn, row.cloud, row.region, [self._sku(row)], USD)[-1][1]
            # Until the stop it is part of what was paid for the instance.
            assert row.stop_us is not None
            seconds = last - max(first, count_before(begin_us, last, row.stop_us))
        return Line(
            key=f"segment:{row.id}",
            kind=COST,
            segment_id=row.id,
            instance_id=row.instance_id,
            owner=row.owner,
            cloud=row.cloud,
            region=row.region,
            terms=terms,
            start_us=row.start_us,
            end_us=row.end_us,
            pieces=((max(0, seconds), rate),),
        )


@lru_cache(maxsize=4096)
def _find_month_end(day: int) -> int:
    """Return when the month ends that a day, counted from the epoch, is in."""
    return month_bounds_us(to_datetime(day * 86_400 * US_PER_S).strftime("%Y-%m"))[1]


def _cut_at_months(begin_us: int, first: int, last: int) -> list[tuple[int, int]]:
    cuts = [first]
    while True:
        at_us = begin_us + cuts[-1] * US_PER_S
        end_us = _find_month_end(at_us // (86_400 * US_PER_S))
        cut = count_before(begin_us, last, end_us)
        if cut >= last:
            return [*zip(cuts, [*cuts[1:], last], strict=True)]
        cuts.append(cut)


def _without(span: tuple[int, int], low: int, high: int) -> list[tuple[int, int]]:
    parts = [(span[0], min(span[1], low)), (max(span[0], high), span[1])]
    return [part for part in parts if part[0] < part[1]] if low < high else [span]
