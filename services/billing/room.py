"""How much money an instance may still hold, and what limits it: budgets, and a grant's credit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.money import format_money
from nightingale_hub.services.billing.budgets import (
    Standing,
    find_applying,
    list_live_holds,
    pending_micro,
    stand,
)
from nightingale_hub.services.billing.burn import Facts, Grant, Use, burn
from nightingale_hub.services.billing.grants import list_grants, load_allowances
from nightingale_hub.services.billing.reach import AHEAD_S, SLACK_MICRO, seconds_for
from nightingale_hub.terms import Customer

UNLIMITED = 2**62


@dataclass(frozen=True)
class Room:
    """What may be held for one instance at an instant, without what it holds already."""

    micro: int
    because: str  # what limits it, for a person; empty when nothing does
    standings: tuple[Standing, ...]

    @property
    def limiting(self) -> Standing | None:
        """The budget with the least left, or None when there is no budget."""
        return min(self.standings, key=lambda each: each.left_micro, default=None)

    @property
    def degrades(self) -> bool:
        """Whether a budget asks for a small size rather than a stop when it ends."""
        return any(each.row.on_end == "degrade" for each in self.standings)


def find_room(
    conn: Connection,
    pays: Customer,
    row: Row[Any],
    project: str,
    nano_per_hour: int,
    at_us: int,
) -> Room:
    """Return how much may be held for instance *row* at *nano_per_hour*."""
    standings = tuple(
        stand(conn, each, at_us, besides=row.id)
        for each in find_applying(conn, pays.id, row.owner, project, at_us)
    )
    micro, because = UNLIMITED, ""
    for each in standings:
        if each.left_micro < micro:
            micro = each.left_micro
            limit = format_money(each.row.limit_micro, pays.currency)
            left = format_money(max(0, each.left_micro), pays.currency)
            whose = each.row.scope if each.row.scope == "customer" else each.row.name
            because = f"of the budget of {whose} ({limit} per {each.row.period}) {left} is left"
    if pays.kind == "non_profit":
        facts = frozenset({("cloud", row.cloud), ("region", row.region), ("user", row.owner)})
        if project:
            facts |= {("project", project)}
        credit = _covered(conn, pays, row.id, facts, nano_per_hour, at_us)
        if credit < micro:
            micro = credit
            left = format_money(credit, pays.currency)
            because = f"credit that may pay for it is good for {left} more"
    return Room(micro, because, standings)


def _covered(
    conn: Connection,
    pays: Customer,
    instance_id: str,
    facts: Facts,
    nano_per_hour: int,
    at_us: int,
) -> int:
    """Return how much of the instance's next time grants would pay, after what others hold.

    Only up to the first second that they would not pay, so a grant's end is seen before it comes.
    """
    grants = list_usable(conn, pays.id)
    others = [x for x in list_live_holds(conn, pays.id) if x.instance_id != instance_id]
    uses = to_uses(others, grants, at_us)
    horizon_s = max(AHEAD_S * 2, 86_400)
    # In steps, so that what comes after the first uncovered one does not count.
    step_s = 60
    mine = []
    for number in range(horizon_s // step_s):
        cost = step_s * nano_per_hour // 3_600_000
        start = at_us + number * step_s * 1_000_000
        mine.append(Use(10**6 + number, start, cost, ((step_s, nano_per_hour),), facts))
    paid: dict[int, int] = {}
    for each in burn([*uses, *mine], grants):
        paid[each.use] = paid.get(each.use, 0) + each.amount_micro
    total = 0
    for use in mine:
        got = paid.get(use.key, 0)
        total += got
        if got < use.amount_micro:
            break
    return total


def list_usable(conn: Connection, customer_id: str) -> list[Grant]:
    """Return the grants of a customer that have something left, each with that as its amount."""
    left = {each["id"]: each["left_micro"] for each in list_grants(conn, customer_id)}
    return [
        Grant(g.id, left[g.id], g.start_us, g.end_us, g.priority, g.scope, g.created_us)
        for g in load_allowances(conn, customer_id)
        if left[g.id] > 0
    ]


def to_uses(lives: Sequence[Row[Any]], grants: Sequence[Grant], at_us: int) -> list[Use]:
    """Return what holds may burn: any grant, so they are taken as if they fitted all of them."""
    every = frozenset(fact for each in grants for fact in each.scope)
    return [
        Use(number, at_us - 1, pending_micro(live), ((1, 1),), every)
        for number, live in enumerate(lives)
    ]


def affordable_seconds(room: Room, nano_per_hour: int, kept_micro: int, most: int) -> int:
    """Return for how long *room* pays, with *kept_micro* kept back."""
    return seconds_for(room.micro - kept_micro - SLACK_MICRO, nano_per_hour, most)
