"""What an owner may still spend: the least that a budget, or the credit, leaves them now.

As people count it: the limit less what is posted, what runs of their own to the second, and what
is held for others. What is held ahead for themselves is theirs still.
"""

from typing import Any

from sqlalchemy import Connection

from nightingale_hub.money import format_money
from nightingale_hub.services.billing.budgets import (
    Standing,
    find_applying,
    list_live_holds,
    pending_micro,
    stand,
)
from nightingale_hub.services.billing.grants import list_grants, load_allowances
from nightingale_hub.services.billing.members import find_project
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
    own = sum(pending_micro(each) for each in list_live_holds(conn, pays.id) if each.owner == owner)
    for row in find_applying(conn, pays.id, owner, project, at_us):
        standing = stand(conn, row, at_us)
        found.append((standing.left_micro + own, row.limit_micro, _name(standing)))
    if pays.kind == "non_profit":
        facts = {("cloud", cloud), ("region", region), ("user", owner)}
        facts |= {("project", project)} if project else set()
        fits = {
            each.id for each in load_allowances(conn, pays.id) if each.fits(at_us, frozenset(facts))
        }
        grants = [each for each in list_grants(conn, pays.id) if each["id"] in fits]
        left = sum(each["left_micro"] for each in grants)
        found.append((left, sum(each["amount_micro"] for each in grants), "the credit"))
    if not found:
        return None
    left_micro, limit_micro, of = min(found)
    return {
        "currency": pays.currency,
        "left_micro": max(0, left_micro - running_micro),
        "limit_micro": limit_micro,
        "of": of,
    }


def _name(standing: Standing) -> str:
    row = standing.row
    whose = row.scope if row.scope == "customer" else row.name
    limit = format_money(row.limit_micro, standing.currency)
    return f"the budget of {whose}, {limit}{' a month' if row.period == 'month' else ''}"
