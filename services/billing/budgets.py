"""Budgets: what may be spent at most, by whom and in which time, and what of it is spoken for."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, true, update

from nightingale_hub.clock import US_PER_S, month_bounds_us, to_datetime
from nightingale_hub.errors import Conflict, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.billing.reach import SLACK_MICRO, price_of
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.budgets import budget, hold
from nightingale_hub.tables.credit import member
from nightingale_hub.tables.customers import customer

FOREVER_US = 253_402_300_799 * US_PER_S  # the calendar's end
DAY_US = 86_400 * US_PER_S
CHARGED = ("usage", "storage", "credit")


@dataclass(frozen=True)
class NewBudget:
    """A budget as an admin or a manager asks for it."""

    customer: str
    scope: str
    name: str
    period: str
    limit_micro: int
    from_us: int
    until_us: int
    on_end: str


@dataclass(frozen=True)
class Standing:
    """A budget and how much of it is spent and held in its period."""

    row: Row[Any]
    start_us: int
    end_us: int
    spent_micro: int
    held_micro: int
    currency: str

    @property
    def left_micro(self) -> int:
        """What may still be held; less than nothing when the limit was lowered below the spend."""
        return int(self.row.limit_micro) - self.spent_micro - self.held_micro

    @property
    def percent(self) -> int:
        """How much of the limit is spoken for, in whole percent."""
        committed = self.spent_micro + self.held_micro
        if self.row.limit_micro == 0:
            return 100
        return max(0, committed) * 100 // int(self.row.limit_micro)


def set_budget(conn: Connection, new: NewBudget, actor: str, at_us: int) -> str:
    """Write *new* down and return its id.

    Raises `NotFound` for an unknown customer, `Conflict` where the same scope has a budget of the
    same period in an overlapping window.
    """
    if conn.execute(select(customer.c.id).where(customer.c.id == new.customer)).first() is None:
        raise NotFound(f"no customer {new.customer!r}")
    other = conn.execute(
        select(budget.c.id).where(
            budget.c.customer == new.customer,
            budget.c.scope == new.scope,
            budget.c.name == new.name,
            budget.c.period == new.period,
            budget.c.from_us < new.until_us,
            budget.c.until_us > new.from_us,
        )
    ).scalar()
    if other is not None:
        raise Conflict(
            f"budget {other} is of the same scope and period, and its window overlaps; change its "
            "limit, or end it first"
        )
    budget_id = f"b-{secrets.token_hex(4)}"
    values = {name: getattr(new, name) for name in NewBudget.__dataclass_fields__}
    conn.execute(insert(budget).values(id=budget_id, created_us=at_us, created_by=actor, **values))
    append_leaf(conn, "budget", {"budget": budget_id, "by": actor, **values}, at_us)
    return budget_id


def change_budget(
    conn: Connection,
    budget_id: str,
    limit_micro: int | None,
    until_us: int | None,
    actor: str,
    at_us: int,
) -> Row[Any]:
    """Change the limit or the end of a budget and return it; raises `NotFound`, `Conflict`."""
    row = get_budget(conn, budget_id)
    values: dict[str, int] = {}
    if limit_micro is not None:
        values["limit_micro"] = limit_micro
    if until_us is not None:
        if not row.from_us < until_us <= row.until_us:
            raise Conflict(f"budget {budget_id} may only end earlier, and after its start")
        values["until_us"] = until_us
    if values:
        conn.execute(update(budget).where(budget.c.id == budget_id).values(**values))
        append_leaf(conn, "budget_change", {"budget": budget_id, "by": actor, **values}, at_us)
    return get_budget(conn, budget_id)


def get_budget(conn: Connection, budget_id: str) -> Row[Any]:
    """Return a budget; raises `NotFound`."""
    row = conn.execute(select(budget).where(budget.c.id == budget_id)).one_or_none()
    if row is None:
        raise NotFound(f"no budget {budget_id!r}")
    return row


def list_budgets(conn: Connection, customer_id: str | None = None) -> list[Row[Any]]:
    """Return the budgets of a customer, or all of them, oldest first."""
    query = select(budget).order_by(budget.c.customer, budget.c.created_us, budget.c.id)
    if customer_id is not None:
        query = query.where(budget.c.customer == customer_id)
    return list(conn.execute(query))


def find_applying(
    conn: Connection, customer_id: str, owner: str, project: str, at_us: int
) -> list[Row[Any]]:
    """Return the budgets that an instance of *owner* spends from at *at_us*."""
    return list(
        conn.execute(
            select(budget)
            .where(
                budget.c.customer == customer_id,
                budget.c.from_us <= at_us,
                budget.c.until_us > at_us,
                or_(
                    budget.c.scope == "customer",
                    and_(budget.c.scope == "user", budget.c.name == owner),
                    and_(budget.c.scope == "project", budget.c.name == project),
                ),
            )
            .order_by(budget.c.id)
        )
    )


def stand(conn: Connection, row: Row[Any], at_us: int, besides: str = "") -> Standing:
    """Return how a budget stands at *at_us*, without what is held for instance *besides*."""
    start_us, end_us = row.from_us, row.until_us
    if row.period == "month":
        month = month_bounds_us(to_datetime(at_us).strftime("%Y-%m"))
        start_us, end_us = max(start_us, month[0]), min(end_us, month[1])
    spent = conn.execute(
        select(func.coalesce(func.sum(line_item.c.amount_micro), 0)).where(
            line_item.c.customer == row.customer,
            line_item.c.kind.in_(CHARGED),
            line_item.c.start_us >= start_us,
            line_item.c.start_us < end_us,
            _is_in_scope(row),
        )
    ).scalar_one()
    held = 0
    for each in list_live_holds(conn, row.customer):
        if is_counted(row, each) and each.instance_id != besides:
            held += pending_micro(each)
    currency = conn.execute(
        select(customer.c.currency).where(customer.c.id == row.customer)
    ).scalar_one()
    return Standing(row, start_us, end_us, int(spent), held, currency)


def is_counted(row: Row[Any], live: Row[Any]) -> bool:
    """Tell whether budget *row* counts the hold *live* of its customer."""
    return bool(row.scope == "customer" or row.name == getattr(live, _COLUMN[row.scope]))


def list_live_holds(conn: Connection, customer_id: str | None = None) -> list[Row[Any]]:
    """Return the holds that are not released, each with the seconds that are posted of it."""
    posted = (
        select(line_item.c.instance_id, func.sum(line_item.c.seconds).label("posted_s"))
        .where(line_item.c.kind == "usage")
        .group_by(line_item.c.instance_id)
    )
    query = select(hold).where(hold.c.state != "released")
    if customer_id is not None:
        query = query.where(hold.c.customer == customer_id)
        posted = posted.where(line_item.c.customer == customer_id)
    sums = posted.subquery()
    return list(
        conn.execute(
            query.add_columns(func.coalesce(sums.c.posted_s, 0).label("posted_s"))
            .outerjoin(sums, sums.c.instance_id == hold.c.instance_id)
            .order_by(hold.c.created_us, hold.c.instance_id)
        )
    )


def pending_micro(live: Row[Any]) -> int:
    """Return the money that a hold keeps beyond what is posted of its instance."""
    seconds = max(0, live.seconds - int(live.posted_s))
    return price_of(seconds, live.nano_per_hour) + int(live.disk_micro) + SLACK_MICRO


_COLUMN = {"project": "project", "user": "owner"}


def _is_in_scope(row: Row[Any]) -> ColumnElement[bool]:
    if row.scope == "user":
        own: ColumnElement[bool] = line_item.c.owner == row.name
        return own
    if row.scope == "project":
        # Whoever worked on the project when the use began.
        works: ColumnElement[bool] = (
            select(member.c.owner)
            .where(
                member.c.customer == line_item.c.customer,
                member.c.owner == line_item.c.owner,
                member.c.project == row.name,
                member.c.from_us <= line_item.c.start_us,
                member.c.until_us.is_(None) | (member.c.until_us > line_item.c.start_us),
            )
            .exists()
        )
        return works
    return true()


def describe(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return budgets and how they stand, fit for JSON."""
    return [
        {
            **{
                name: getattr(each.row, name)
                for name in (
                    "id customer scope name period limit_micro from_us until_us on_end"
                ).split()
            },
            "currency": each.currency,
            "period_start_us": each.start_us,
            "period_end_us": each.end_us,
            "spent_micro": each.spent_micro,
            "held_micro": each.held_micro,
            "left_micro": each.left_micro,
            "percent": each.percent,
        }
        for each in standings
    ]
