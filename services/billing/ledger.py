"""The ledger: double entry, append-only, idempotent. Only this file posts money.

The database itself refuses to change or delete what is posted; a correction is a reversal. What
is posted together is one leaf of the tamper-evident log.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection, delete, func, select

from nightingale_hub.bulk import insert_rows, reserve_ids
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.billing.currency import DECIMALS
from nightingale_hub.tables.billing import balance, entry, journal
from nightingale_hub.terms import USD

MAX_AMOUNT_MICRO = 2**63 - 1


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

    @cached_property
    def payload_sha256(self) -> str:
        """What tells the same journal sent twice from another under the same key."""
        entries = [[each.account, each.amount_micro, each.currency] for each in self.entries]
        return hashlib.sha256(json.dumps([self.description, entries]).encode()).hexdigest()


@dataclass(frozen=True)
class Accounts:
    """The accounts of one customer. What is owed to us and what we spend has debits."""

    customer: str

    @property
    def accrued(self) -> str:
        """What the customer has used and was not invoiced for yet; `unbilled` is its other side."""
        return f"accrued:{self.customer}"

    @property
    def unbilled(self) -> str:
        """What will be revenue once it is invoiced."""
        return f"unbilled:{self.customer}"

    @property
    def receivable(self) -> str:
        """What the customer was invoiced for and has not paid."""
        return f"receivable:{self.customer}"

    @property
    def revenue(self) -> str:
        """What the customer was invoiced for in all."""
        return f"revenue:{self.customer}"

    @property
    def program_expense(self) -> str:
        """What a non-profit's use cost the program; grants pay it."""
        return f"program_expense:{self.customer}"

    @property
    def platform_expense(self) -> str:
        """What nobody pays for: start-up, stops, faults, what is free."""
        return f"platform_expense:{self.customer}"

    def free(self, month: str) -> str:
        """What was used of that which is free in *month*."""
        return f"free:{self.customer}:{month}"


def grant_account(grant_id: str) -> str:
    """Return the account of a grant: what was granted less what was used of it."""
    return f"grant:{grant_id}"


def provider_account(cloud: str) -> str:
    """Return the account of what a cloud bills us for time that no customer pays."""
    return f"provider:{cloud}"


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
        if each.currency not in DECIMALS:
            return f"currency {each.currency[:40]!r} is not known"
        sums[each.currency] += each.amount_micro
    if any(sums.values()):
        return f"it does not balance: {dict(sums)}"
    return None


def post(conn: Connection, posted: Journal, at_us: int) -> bool:
    """Append *posted*; returns False when the very same journal was posted before.

    Raises `BadInput` when it does not balance, `Conflict` when its key stands for another one.
    """
    return bool(post_all(conn, [posted], at_us))


def post_all(conn: Connection, posted: Sequence[Journal], at_us: int) -> set[str]:
    """Append *posted*, all or none, and return the keys of those that were not there before.

    Raises as `post` does.
    """
    by_key: dict[str, Journal] = {}
    for each in posted:
        fault = find_fault(each)
        if fault is not None:
            raise BadInput(f"journal {each.idem_key!r}: {fault}")
        if by_key.setdefault(each.idem_key, each).payload_sha256 != each.payload_sha256:
            raise Conflict(f"journal {each.idem_key} is posted twice with different entries")
    if not by_key:
        return set()
    with conn.begin_nested():
        new = _claim_keys(conn, by_key, at_us)
        rows = [
            (new[key], each.account, each.amount_micro, each.currency)
            for key in new
            for each in by_key[key].entries
        ]
        columns = ("journal_id", "account", "amount_micro", "currency")
        insert_rows(conn, entry, columns, rows)
        _add_to_balances(conn, rows)
        if new:
            append_leaf(conn, "journals", _describe(new, by_key), at_us)
    return set(new)


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


def find_balance(conn: Connection, account: str, currency: str = USD) -> int:
    """Return an account's balance in micro-units; 0 for one on which nothing was posted."""
    amount = conn.execute(
        select(balance.c.amount_micro).where(
            balance.c.account == account, balance.c.currency == currency
        )
    ).scalar()
    return int(amount or 0)


def fold_balances(conn: Connection) -> dict[str, int]:
    """Return every account's balance in micro-units, from the entries themselves.

    An account that is not in dollars has its currency behind its name: `accrued:org/x EUR`.
    """
    return {
        account if currency == USD else f"{account} {currency}": amount
        for (account, currency), amount in _fold(conn).items()
    }


def list_wrong_balances(conn: Connection) -> list[str]:
    """Return the accounts whose kept balance is not their entries' sum: there must be none."""
    kept = {(row.account, row.currency): row.amount_micro for row in conn.execute(select(balance))}
    folded = _fold(conn)
    return sorted(
        {key[0] for key in kept.keys() | folded.keys() if kept.get(key, 0) != folded.get(key, 0)}
    )


def rebuild_balances(conn: Connection) -> int:
    """Work every kept balance out anew from the entries; returns how many were wrong."""
    wrong = len(list_wrong_balances(conn))
    conn.execute(delete(balance))
    columns = ("account", "currency", "amount_micro")
    insert_rows(conn, balance, columns, [(*key, amount) for key, amount in _fold(conn).items()])
    return wrong


def _fold(conn: Connection) -> dict[tuple[str, str], int]:
    rows = conn.execute(
        select(entry.c.account, entry.c.currency, func.sum(entry.c.amount_micro))
        .group_by(entry.c.account, entry.c.currency)
        .order_by(entry.c.account, entry.c.currency)
    )
    return {(account, currency): int(total) for account, currency, total in rows}


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


def hash_journals(rows: Iterable[tuple[int, str, str]]) -> str:
    """Return what the log keeps of journals: their (id, key, payload's hash), in order."""
    text = "".join(f"{number} {key} {payload}\n" for number, key, payload in sorted(rows))
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(new: dict[str, int], by_key: dict[str, Journal]) -> dict[str, object]:
    rows = [(number, key, by_key[key].payload_sha256) for key, number in new.items()]
    return {
        "first": min(new.values()),
        "last": max(new.values()),
        "count": len(new),
        "sha256": hash_journals(rows),
    }


def _claim_keys(conn: Connection, by_key: dict[str, Journal], at_us: int) -> dict[str, int]:
    # Ordered, so that two writers of the same keys wait for each other and never in a circle.
    keys = sorted(by_key)
    ids = dict(zip(keys, reserve_ids(conn, journal, len(keys)), strict=True))
    rows = [
        (ids[key], key, by_key[key].payload_sha256, at_us, by_key[key].description) for key in keys
    ]
    columns = ("id", "idem_key", "payload_sha256", "at_us", "description")
    insert_rows(conn, journal, columns, rows, skip_known="idem_key")
    claimed = conn.execute(
        select(journal.c.id, journal.c.idem_key).where(
            journal.c.id.between(ids[keys[0]], ids[keys[-1]])
        )
    )
    new = {key: number for number, key in claimed if ids.get(key) == number}
    for key in (key for key in keys if key not in new):
        known = conn.execute(
            select(journal.c.payload_sha256).where(journal.c.idem_key == key)
        ).scalar_one()
        if known != by_key[key].payload_sha256:
            raise Conflict(f"journal {key} was posted before with other entries")
    return new


def _add_to_balances(conn: Connection, rows: Iterable[tuple[int, str, int, str]]) -> None:
    sums: Counter[tuple[str, str]] = Counter()
    for _, account, amount, currency in rows:
        sums[account, currency] += amount
    mark = "?" if conn.dialect.name == "sqlite" else "%s"
    # Ordered, so that two writers of the same accounts never wait in a circle.
    values = [(account, currency, amount) for (account, currency), amount in sorted(sums.items())]
    if values:
        conn.exec_driver_sql(
            f"INSERT INTO balance (account, currency, amount_micro) "  # noqa: S608 - marks only
            f"VALUES ({mark}, {mark}, {mark}) ON CONFLICT (account, currency) DO UPDATE "
            "SET amount_micro = balance.amount_micro + excluded.amount_micro",
            values,
        )
