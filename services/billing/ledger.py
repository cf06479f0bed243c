"""The ledger: double entry, append-only, idempotent. Only this file posts money.

The database itself refuses to change or delete what is posted; a correction is a reversal.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.tables.billing import entry, journal

USD = "USD"
MAX_AMOUNT_MICRO = 2**63 - 1
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True)
class Entry:
    """An amount on an account: positive debits it, negative credits it."""

    account: str
    amount_micro: int
    currency: str = USD


@dataclass(frozen=True)
class Journal:
    """Entries that belong together and sum to zero in each currency."""

    idem_key: str
    description: str
    entries: tuple[Entry, ...]

    @property
    def payload_sha256(self) -> str:
        """What tells the same journal sent twice from another under the same key."""
        entries = [[each.account, each.amount_micro, each.currency] for each in self.entries]
        return hashlib.sha256(json.dumps([self.description, entries]).encode()).hexdigest()


def receivable(owner: str) -> str:
    """Return the account of what *owner* owes."""
    return f"receivable:{owner}"


REVENUE = "revenue:usage"


def find_fault(proposed: Journal) -> str | None:
    """Return what is wrong with *proposed*, or None when it may be posted."""
    if not proposed.idem_key or not proposed.description:
        return "it needs a key and a description"
    if len(proposed.entries) < 2:
        return "it needs two entries at least"
    sums: Counter[str] = Counter()
    for each in proposed.entries:
        if not each.account:
            return "an entry needs an account"
        if type(each.amount_micro) is not int or abs(each.amount_micro) > MAX_AMOUNT_MICRO:
            return f"amount {each.amount_micro!r} on {each.account} is no whole number in range"
        if not _CURRENCY.fullmatch(each.currency):
            return f"currency {each.currency[:40]!r} is not three capital letters"
        sums[each.currency] += each.amount_micro
    if any(sums.values()):
        return f"it does not balance: {dict(sums)}"
    return None


def post(conn: Connection, posted: Journal, at_us: int) -> bool:
    """Append *posted*; returns False when the very same journal was posted before.

    Raises `BadInput` when it does not balance, `Conflict` when its key stands for another one.
    """
    fault = find_fault(posted)
    if fault is not None:
        raise BadInput(f"journal {posted.idem_key!r}: {fault}")
    if not _claim_key(conn, posted, at_us):
        return False
    journal_id = conn.execute(
        select(journal.c.id).where(journal.c.idem_key == posted.idem_key)
    ).scalar_one()
    conn.execute(
        insert(entry),
        [
            {
                "journal_id": journal_id,
                "account": each.account,
                "amount_micro": each.amount_micro,
                "currency": each.currency,
            }
            for each in posted.entries
        ],
    )
    return True


def reverse(conn: Connection, idem_key: str, reason: str, at_us: int) -> bool:
    """Post the exact negation of a journal, once; returns False when that was done before.

    Raises `NotFound` for a key that no journal has.
    """
    row = conn.execute(select(journal).where(journal.c.idem_key == idem_key)).one_or_none()
    if row is None:
        raise NotFound(f"no journal {idem_key!r} to reverse")
    entries = conn.execute(
        select(entry).where(entry.c.journal_id == row.id).order_by(entry.c.id)
    ).all()
    negated = tuple(Entry(each.account, -each.amount_micro, each.currency) for each in entries)
    return post(conn, Journal(f"reversal:{idem_key}", f"Reversal: {reason}", negated), at_us)


def fold_balances(conn: Connection) -> dict[str, int]:
    """Return every account's balance in micro-units, from the entries themselves."""
    rows = conn.execute(
        select(entry.c.account, func.sum(entry.c.amount_micro))
        .group_by(entry.c.account)
        .order_by(entry.c.account)
    )
    return {account: int(total) for account, total in rows}


def list_unbalanced(conn: Connection) -> list[str]:
    """Return the keys of journals whose entries do not sum to zero: there must be none."""
    rows = conn.execute(
        select(journal.c.idem_key)
        .join(entry, entry.c.journal_id == journal.c.id)
        .group_by(journal.c.idem_key, entry.c.currency)
        .having(func.sum(entry.c.amount_micro) != 0)
        .order_by(journal.c.idem_key)
    )
    return [row.idem_key for row in rows]


def count_entries(conn: Connection) -> int:
    """Return how many entries were ever posted."""
    return int(conn.execute(select(func.count()).select_from(entry)).scalar_one())


def _claim_key(conn: Connection, posted: Journal, at_us: int) -> bool:
    values = {
        "idem_key": posted.idem_key,
        "payload_sha256": posted.payload_sha256,
        "at_us": at_us,
        "description": posted.description,
    }
    try:
        # Of two writers at once the second waits here, then finds the key taken.
        with conn.begin_nested():
            conn.execute(insert(journal).values(**values))
        return True
    except IntegrityError:
        known = conn.execute(
            select(journal.c.payload_sha256).where(journal.c.idem_key == posted.idem_key)
        ).scalar_one()
    if known != posted.payload_sha256:
        raise Conflict(f"journal {posted.idem_key} was posted before with other entries")
    return False
