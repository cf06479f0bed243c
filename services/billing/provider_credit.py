"""A provider's credit burns against the cloud's own bill, apart from every customer's allowance.

What each credit paid is a function of the bills that were taken in and the credits alone, in the
burn order of grants; a bill that is corrected, or a credit given late, is posted as a difference.
"""

from collections import defaultdict

from sqlalchemy import Connection, func, select

from nightingale_hub.services.billing.bills import DAY_US
from nightingale_hub.services.billing.burn import Use, burn
from nightingale_hub.services.billing.grants import credit_account, to_grant
from nightingale_hub.services.billing.ledger import (
    Entry,
    Journal,
    find_balance,
    post,
    provider_account,
)
from nightingale_hub.tables.billing import journal
from nightingale_hub.tables.credit import credit_grant
from nightingale_hub.tables.reconciliation import bill_charge

DAY_S = DAY_US // 1_000_000


def burn_provider_credit(conn: Connection, cloud: str, at_us: int) -> int:
    """Bring what credits pay of *cloud*'s bills up to date; return how many changed."""
    rows = [
        row
        for row in conn.execute(select(credit_grant).where(credit_grant.c.kind == "provider"))
        if ("cloud", cloud) in to_grant(row).scope
    ]
    changed = 0
    for currency in sorted({row.currency for row in rows}):
        mine = [row for row in rows if row.currency == currency]
        paid: dict[str, int] = defaultdict(int)
        uses = _load_uses(conn, cloud, currency)
        for each in burn(uses, [to_grant(row) for row in mine]):
            paid[each.grant] += each.amount_micro
        for row in mine:
            before = row.amount_micro - find_balance(conn, credit_account(row.id), currency)
            more = paid[row.id] - before
            if more:
                changed += 1
                entries = (
                    Entry(provider_account(cloud), more, currency),
                    Entry(credit_account(row.id), -more, currency),
                )
                key = f"provider-burn:{row.id}:{_count_burns(conn, row.id) + 1}"
                post(conn, Journal(key, f"what credit pays of {cloud}'s bills", entries), at_us)
    return changed


def _load_uses(conn: Connection, cloud: str, currency: str) -> list[Use]:
    """Return what the cloud bills for each day, as uses of that day."""
    rows = conn.execute(
        select(bill_charge.c.day_us, func.sum(bill_charge.c.cost_micro))
        .where(bill_charge.c.cloud == cloud, bill_charge.c.currency == currency)
        .group_by(bill_charge.c.day_us)
        .order_by(bill_charge.c.day_us)
    )
    facts = frozenset({("cloud", cloud)})
    return [
        Use(number, int(day_us), int(cost), ((DAY_S, 1),), facts)
        for number, (day_us, cost) in enumerate(rows)
    ]


def _count_burns(conn: Connection, grant_id: str) -> int:
    mine = journal.c.idem_key.startswith(f"provider-burn:{grant_id}:", autoescape=True)
    return int(conn.execute(select(func.count()).where(mine)).scalar_one())
