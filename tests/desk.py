"""The desk of billing, asked in one line, for tests of what stands behind it."""

from typing import Any

from sqlalchemy import Connection

from nightingale_hub.clock import US_PER_S
from nightingale_hub.services.billing.desk.verbs import serve
from nightingale_hub.services.billing.desk.visit import Visit

DAY = 86_400 * US_PER_S
NOV = 1_793_491_200 * US_PER_S  # 2026-11-01
DEC = NOV + 30 * DAY


def ask(
    conn: Connection,
    verb: str,
    at_us: Any = DEC,
    actor: Any = "root",
    is_admin: Any = True,
    **body: Any,
) -> dict[str, Any]:
    """Return what the desk answers to *verb*; raises as it does."""
    visit = Visit(conn, actor, is_admin, at_us, "Nightingale Open Science", 30)
    return serve(visit, verb, body)


def add_lab(conn: Connection, at_us: int = 1, kind: str = "non_profit", **more: Any) -> str:
    """Write down the customer org/lab, with alice as a member on project p1."""
    ask(conn, "customer.add", at_us, id="org/lab", name="The Lab", kind=kind, **more)
    ask(conn, "member.add", at_us, customer="org/lab", user="alice", project="p1")
    return "org/lab"
