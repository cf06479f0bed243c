"""What an owner may still spend: the least that a budget, or the credit, leaves them now.

As people count it: the limit less what is posted, what runs of their own to the second, and what
is held for others. What is held ahead for themselves is theirs still.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.money import format_money
from nightingale_hub.services.billing.budgets import (
    Standing,
    find_applying,
    is_counted,
    list_live_holds,
    pending_micro,
    stand,
)
from nightingale_hub.services.billing.burn import Facts, burn
from nightingale_hub.services.billing.grants import list_grants, load_allowances
from nightingale_hub.services.billing.members import find_project
from nightingale_hub.services.billing.room import list_usable, to_uses
from nightingale_hub.terms import resolve_payer


def find_left(
    conn: Connection, owner: str, cloud: str, region: str, running_micro: int, at_us: int
) -> dict[str, Any] | None:
    """Return what *owner* may still spend at *at_us*; None where nothing limits it.

    *running_micro* is what runs of theirs and is not posted. `limit_micro` is what `left_micro` is
    left of, and `of` says of what.
    """
    pays = resolve_payer(conn, owner, at_us)
    project = find_project(conn, pays.id, owner, at_us)
    found = []
    lives = list_live_holds(conn, pays.id)
    for row in find_applying(conn, pays.id, owner, project, at_us):
        standing = stand(conn, row, at_us)
        mine = [each for each in lives if each.owner == owner and is_counted(row, each)]
        own = sum(pending_micro(each) for each in mine)
        found.append((standing.left_micro + own, row.limit_micro, _name(standing)))
    if pays.kind == "non_profit":
        facts = {("cloud", cloud), ("region", region), ("user", owner)}
        facts |= {("project", project)} if project else set()
        others = [each for each in lives if each.owner != owner]
        found.append((*_find_credit(conn, pays.id, frozenset(facts), others, at_us), "the credit"))
    if not found:
        return None
    left_micro, limit_micro, of = min(found)
    return {
        "currency": pays.currency,
        "left_micro": max(0, left_micro - running_micro),
        "limit_micro": limit_micro,
        "of": of,
    }


def _find_credit(
    conn: Connection, customer_id: str, facts: Facts, others: Sequence[Row[Any]], at_us: int
) -> tuple[int, int]:
    """Return what is left of the credit that fits *facts* after what *others* hold, and of what."""
    usable = list_usable(conn, customer_id)
    left = sum(each.amount_micro for each in usable if each.fits(at_us, facts))
    fits = {each.id for each in load_allowances(conn, customer_id) if each.fits(at_us, facts)}
    burnt = burn(to_uses(others, usable, at_us), usable)
    left -= sum(each.amount_micro for each in burnt if each.grant in fits)
    given = [each for each in list_grants(conn, customer_id) if each["id"] in fits]
    return left, sum(each["amount_micro"] for each in given)


def _name(standing: Standing) -> str:
    row = standing.row
    whose = row.scope if row.scope == "customer" else row.name
    limit = format_money(row.limit_micro, standing.currency)
    return f"the budget of {whose}, {limit}{' a month' if row.period == 'month' else ''}"
