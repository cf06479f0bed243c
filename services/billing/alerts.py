"""Who is told how much of a budget is gone: each mark once in its period."""

from typing import Any

from sqlalchemy import Connection, and_, insert, select
from sqlalchemy.exc import IntegrityError

from nightingale_hub.money import format_money
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.services.billing.budgets import Standing
from nightingale_hub.tables.budgets import budget_alert
from nightingale_hub.tables.credit import member

MARKS = (50, 80, 95, 100)


def note_alerts(
    conn: Connection, standing: Standing, at_us: int, is_cut: bool = False
) -> list[int]:
    """Record each mark that the budget has reached, once per period; return the new ones.

    *is_cut* says that the budget could not give all that was asked: nothing is left of it.
    """
    percent = 100 if is_cut else standing.percent
    reached = [mark for mark in MARKS if percent >= mark]
    key = and_(
        budget_alert.c.budget_id == standing.row.id, budget_alert.c.period_us == standing.start_us
    )
    known = set(conn.execute(select(budget_alert.c.percent).where(key)).scalars())
    new = [mark for mark in reached if mark not in known]
    for mark in new:
        try:
            with conn.begin_nested():
                conn.execute(
                    insert(budget_alert).values(
                        budget_id=standing.row.id,
                        period_us=standing.start_us,
                        percent=mark,
                        spent_micro=standing.spent_micro + standing.held_micro,
                        at_us=at_us,
                    )
                )
        except IntegrityError:  # another writer was first
            continue
    return new


def tell_alert(conn: Connection, standing: Standing, mark: int, owner: str, at_us: int) -> None:
    """Tell whoever spends, and whoever manages the customer, that *mark* percent is reached."""
    row = standing.row
    whose = row.customer if row.scope == "customer" else f"{row.name} of {row.customer}"
    limit = format_money(row.limit_micro, standing.currency)
    left = format_money(max(0, standing.left_micro), standing.currency)
    body = (
        f"{mark} % of the budget of {whose} ({limit} per {row.period}) is spent or held; {left} is "
        "left. What runs is warned fifteen minutes before its end."
    )
    managers = conn.execute(
        select(member.c.owner).where(
            member.c.customer == row.customer,
            member.c.role == "manager",
            member.c.until_us.is_(None),
        )
    ).scalars()
    for each in sorted({owner, *managers}):
        key = f"budget:{row.id}:{standing.start_us}:{mark}:{each}"
        add_notice(conn, each, Kind.BUDGET, f"Budget at {mark} %", body, key, at_us)


def list_alerts(conn: Connection, budget_id: str) -> list[dict[str, Any]]:
    """Return the alerts of a budget, newest first."""
    rows = conn.execute(
        select(budget_alert)
        .where(budget_alert.c.budget_id == budget_id)
        .order_by(budget_alert.c.id.desc())
        .limit(100)
    )
    return [
        {name: getattr(row, name) for name in ("percent", "spent_micro", "at_us", "period_us")}
        for row in rows
    ]
