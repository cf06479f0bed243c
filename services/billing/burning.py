"""Lets grants pay for posted lines, in the order in which the use was, whenever it was posted.

What each grant pays of each line is a function of the lines and the grants alone. A line that
comes late, or a grant given afterwards, is worked in from its own place on: lines that change are
corrected by further journals. What is on an invoice stays as it is.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from nightingale_hub.services.billing.burn import Burn, Facts, Use, burn
from nightingale_hub.services.billing.grants import load_allowances
from nightingale_hub.services.billing.ledger import Accounts, Entry, Journal, grant_account, post
from nightingale_hub.services.billing.members import find_project
from nightingale_hub.services.billing.payer import lock_customer
from nightingale_hub.tables.billing import entry, journal, line_item
from nightingale_hub.tables.credit import burned, funded
from nightingale_hub.tables.documents import document_line
from nightingale_hub.tables.instances import instance
from nightingale_hub.terms import Customer, find_customer

PAID_FOR = ("usage", "storage")
CREDIT = "credit"
Paid = dict[int, dict[str, int]]  # line, grant: micro-units


def list_unburned(conn: Connection, limit: int = 100) -> list[str]:
    """Return customers with posted lines that no grant was looked up for."""
    return list(
        conn.execute(
            select(line_item.c.customer)
            .outerjoin(funded, funded.c.line_id == line_item.c.id)
            .where(line_item.c.kind.in_((*PAID_FOR, CREDIT)), funded.c.line_id.is_(None))
            .distinct()
            .order_by(line_item.c.customer)
            .limit(limit)
        ).scalars()
    )


def burn_grants(conn: Connection, customer_id: str, at_us: int, since_us: int | None = None) -> int:
    """Bring what grants pay for *customer_id* up to date; return how many lines changed.

    Works from the first line on that was not looked at, or from *since_us* where that is before
    it: a grant given for the past says so.
    """
    pays = find_customer(conn, customer_id)
    if pays is None:
        return 0
    lock_customer(conn, pays, at_us)
    lines = _load_lines(conn, customer_id)
    seen = {each.id for each in lines if each.revision is not None}
    starts = [each.start_us for each in lines if each.id not in seen]
    if since_us is not None:
        starts.append(since_us)
    if not starts:
        return 0
    uses = _make_uses(conn, lines)
    first_us = min(starts)
    # A credit stands with the use that it lowers, which began before it.
    lowered = {each.segment_id for each in lines if each.id not in seen and each.kind == CREDIT}
    owners = [each for each in lines if each.segment_id in lowered and each.kind in PAID_FOR]
    first_us = min([first_us, *(each.start_us for each in owners)])
    frozen = _load_frozen(conn, customer_id)
    replayed = [use for use in uses if use.start_us >= first_us and use.key not in frozen]
    before = _load_paid(conn, customer_id)
    spent: dict[str, int] = defaultdict(int)
    again = {use.key for use in replayed}
    for line_id, paid in before.items():
        if line_id not in again:
            for grant_id, amount in paid.items():
                spent[grant_id] += amount
    after = _by_line(burn(replayed, load_allowances(conn, customer_id), spent))
    revisions = {each.id: each.revision for each in lines}
    changed = set()
    for use in replayed:
        old, new = before.get(use.key, {}), after.get(use.key, {})
        if old != new:
            changed.add(use.key)
            number = (revisions[use.key] or 0) + 1
            _post_change(conn, pays, f"burn:{use.key}:{number}", old, new, at_us)
            _store(conn, use.key, new, number, is_new=revisions[use.key] is None)
    rest = [{"line_id": each.id, "revision": 0} for each in lines if each.id not in seen | changed]
    if rest:
        conn.execute(insert(funded), rest)
    return len(changed)


def accrued_micro(customer_id: str) -> Any:
    """Return the subquery of what each line of a customer accrued: its amount less what is free.

    Of one customer's alone: over everyone's it would read the whole ledger each time.
    """
    return (
        select(line_item.c.id.label("line_id"), func.sum(entry.c.amount_micro).label("micro"))
        .join(journal, journal.c.idem_key == line_item.c.idem_key)
        .join(entry, entry.c.journal_id == journal.c.id)
        .where(
            line_item.c.customer == customer_id,
            entry.c.account == Accounts(customer_id).accrued,
        )
        .group_by(line_item.c.id)
        .subquery()
    )


def paid_micro(customer_id: str) -> Any:
    """Return the subquery of what grants pay of each line of a customer."""
    return (
        select(burned.c.line_id, func.sum(burned.c.amount_micro).label("paid"))
        .join(line_item, line_item.c.id == burned.c.line_id)
        .where(line_item.c.customer == customer_id)
        .group_by(burned.c.line_id)
        .subquery()
    )


def _load_lines(conn: Connection, customer_id: str) -> list[Row[Any]]:
    accrued = accrued_micro(customer_id)
    return list(
        conn.execute(
            select(
                line_item,
                instance.c.cloud,
                instance.c.region,
                funded.c.revision,
                func.coalesce(accrued.c.micro, 0).label("accrued"),
            )
            .join(instance, instance.c.id == line_item.c.instance_id)
            .outerjoin(accrued, accrued.c.line_id == line_item.c.id)
            .outerjoin(funded, funded.c.line_id == line_item.c.id)
            .where(
                line_item.c.customer == customer_id,
                line_item.c.kind.in_((*PAID_FOR, CREDIT)),
            )
            .order_by(line_item.c.start_us, line_item.c.id)
        )
    )


def _make_uses(conn: Connection, lines: Sequence[Row[Any]]) -> list[Use]:
    lowered: dict[int, int] = defaultdict(int)
    for each in lines:
        if each.kind == CREDIT:
            lowered[each.segment_id] -= int(each.accrued)
    uses = []
    for each in lines:
        if each.kind == CREDIT:
            continue
        # A credit lowers the lines of its segment, the first ones first.
        less = min(int(each.accrued), lowered[each.segment_id])
        lowered[each.segment_id] -= less
        uses.append(
            Use(
                each.id,
                each.start_us,
                int(each.accrued) - less,
                tuple((seconds, nano) for seconds, nano in json.loads(each.pieces)),
                _facts(conn, each),
            )
        )
    return uses


def _facts(conn: Connection, line: Row[Any]) -> Facts:
    project = find_project(conn, line.customer, line.owner, line.start_us)
    return frozenset(
        {
            ("cloud", line.cloud),
            ("region", line.region),
            ("user", line.owner),
            *([("project", project)] if project else ()),
        }
    )


def _load_frozen(conn: Connection, customer_id: str) -> set[int]:
    return set(
        conn.execute(
            select(document_line.c.line_id)
            .join(line_item, line_item.c.id == document_line.c.line_id)
            .where(line_item.c.customer == customer_id)
        ).scalars()
    )


def _load_paid(conn: Connection, customer_id: str) -> Paid:
    paid: Paid = defaultdict(dict)
    for row in conn.execute(
        select(burned)
        .join(line_item, line_item.c.id == burned.c.line_id)
        .where(line_item.c.customer == customer_id)
    ):
        paid[row.line_id][row.grant_id] = row.amount_micro
    return paid


def _by_line(burns: Sequence[Burn]) -> Paid:
    paid: Paid = defaultdict(dict)
    for each in burns:
        paid[each.use][each.grant] = each.amount_micro
    return paid


def _post_change(
    conn: Connection,
    pays: Customer,
    key: str,
    old: Mapping[str, int],
    new: Mapping[str, int],
    at_us: int,
) -> None:
    entries: list[Entry] = []
    for grant_id in sorted({*old, *new}):
        more = new.get(grant_id, 0) - old.get(grant_id, 0)
        if more:
            entries += _entries(pays, grant_id, more)
    post(conn, Journal(key, "what grants pay", tuple(entries)), at_us)


def _store(
    conn: Connection, line_id: int, paid: Mapping[str, int], revision: int, is_new: bool
) -> None:
    conn.execute(delete(burned).where(burned.c.line_id == line_id))
    if paid:
        conn.execute(
            insert(burned),
            [
                {"line_id": line_id, "grant_id": grant_id, "amount_micro": amount}
                for grant_id, amount in sorted(paid.items())
            ],
        )
    if is_new:
        conn.execute(insert(funded).values(line_id=line_id, revision=revision))
    else:
        conn.execute(update(funded).where(funded.c.line_id == line_id).values(revision=revision))


def _entries(pays: Customer, grant_id: str, amount: int) -> list[Entry]:
    # What the grant pays is given, and is not going to be asked of the customer.
    accounts = Accounts(pays.id)
    return [
        Entry(accounts.program_expense, amount, pays.currency),
        Entry(grant_account(grant_id), -amount, pays.currency),
        Entry(accounts.unbilled, amount, pays.currency),
        Entry(accounts.accrued, -amount, pays.currency),
    ]
