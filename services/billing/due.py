"""What a customer owes: posted lines that no invoice has asked for, less what grants paid."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, literal, or_, select

from nightingale_hub.clock import month_bounds_us
from nightingale_hub.errors import Conflict
from nightingale_hub.money import divide
from nightingale_hub.offers import Size
from nightingale_hub.services.billing.burning import accrued_micro, paid_micro
from nightingale_hub.services.billing.documents import Line, share_free_seconds
from nightingale_hub.services.billing.reconcile import list_phantoms
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.customers import customer, payer, plan
from nightingale_hub.tables.documents import document_line
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment

CHARGED = ("usage", "storage", "credit")
PPM = 1_000_000


@dataclass(frozen=True)
class Due:
    """A posted line, as an invoice shows what is owed of it."""

    line_id: int
    line: Line


def list_due(conn: Connection, customer_id: str, before_us: int) -> list[Due]:
    """Return what is owed for use that began before *before_us*, by start; nothing is left out.

    A line that grants paid whole is there with an amount of nothing.
    """
    paid = paid_micro(customer_id)
    accrued = accrued_micro(customer_id)
    rows = conn.execute(
        select(
            line_item,
            instance.c.cpu,
            instance.c.gpu,
            instance.c.disk,
            func.coalesce(paid.c.paid, 0).label("paid"),
            func.coalesce(accrued.c.micro, 0).label("accrued"),
        )
        .join(instance, instance.c.id == line_item.c.instance_id)
        .outerjoin(accrued, accrued.c.line_id == line_item.c.id)
        .outerjoin(paid, paid.c.line_id == line_item.c.id)
        .outerjoin(document_line, document_line.c.line_id == line_item.c.id)
        .where(
            line_item.c.customer == customer_id,
            line_item.c.kind.in_(CHARGED),
            line_item.c.start_us < before_us,
            document_line.c.line_id.is_(None),
        )
        .order_by(line_item.c.start_us, line_item.c.id)
    )
    return [
        Due(
            row.id,
            Line(
                _describe(row.kind, row.instance_id, row.owner, Size(row.cpu, row.gpu, row.disk))
                + (f", {row.cause}" if row.cause else "")
                + (" (part paid by credit)" if row.paid else ""),
                int(row.accrued) - int(row.paid),
                row.start_us,
                row.seconds,
            ),
        )
        for row in rows
    ]


def check_complete(conn: Connection, customer_id: str, before_us: int) -> None:
    """Raise `Conflict` while use of the customer from before *before_us* is not posted.

    Or while a cloud's bill does not have an instance that they are charged for.
    """
    waiting = conn.execute(
        select(func.count(segment.c.id.distinct()))
        .join(instance, instance.c.id == segment.c.instance_id)
        .outerjoin(
            line_item,
            (line_item.c.segment_id == segment.c.id)
            & or_(segment.c.end_us.is_not(None), line_item.c.end_us >= before_us),
        )
        .where(
            segment.c.meter == "ready",
            segment.c.start_us < before_us,
            line_item.c.id.is_(None),
            or_(
                instance.c.owner.in_(select(payer.c.owner).where(payer.c.customer == customer_id)),
                literal("user/").concat(instance.c.owner) == customer_id,
            ),
        )
    ).scalar_one()
    if waiting:
        raise Conflict(
            f"{waiting} pieces of use of {customer_id} are not posted yet; try again when the "
            "meter has proven them"
        )
    mine = select(payer.c.owner).where(payer.c.customer == customer_id)
    owners = {*conn.execute(mine).scalars(), customer_id.removeprefix("user/")}
    phantoms = list_phantoms(conn, owners, before_us)
    if phantoms:
        raise Conflict(
            f"no cloud bills {', '.join(phantoms[:5])}, which {customer_id} is charged for; settle "
            "the findings of kind bill_phantom, or take in the cloud's newer bill"
        )


def count_free_seconds(conn: Connection, month: str, line_ids: Sequence[int]) -> int:
    """Return how long non-profits could run for what these lines bring beyond list price."""
    beyond = 0
    rows = conn.execute(
        select(line_item.c.amount_micro, plan.c.markup_ppm)
        .join(
            plan,
            (plan.c.name == line_item.c.plan) & (plan.c.effective_us == line_item.c.plan_us),
        )
        .where(line_item.c.id.in_(line_ids))
    )
    for amount, markup in rows:
        if markup > -PPM:
            beyond += amount - divide(amount * PPM, PPM + markup)
    if beyond <= 0:
        return 0  # without a look at everyone else's month
    start_us, end_us = month_bounds_us(month)
    free_micro, free_s = conn.execute(
        select(
            func.coalesce(func.sum(line_item.c.amount_micro), 0),
            func.coalesce(func.sum(line_item.c.seconds), 0),
        )
        .join(customer, customer.c.id == line_item.c.customer)
        .where(
            customer.c.kind == "non_profit",
            line_item.c.kind == "usage",
            line_item.c.start_us >= start_us,
            line_item.c.start_us < end_us,
        )
    ).one()
    return share_free_seconds(beyond, int(free_micro), int(free_s))


def _describe(kind: str, instance_id: str, owner: str, size: Size) -> str:
    what = {"usage": f"{size}", "storage": "disk or address, stopped", "credit": "credit"}[kind]
    return f"{instance_id} of {owner}, {what}"
