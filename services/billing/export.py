"""Exports the journal as beancount reads it, so that somebody else's program can check the books.

ref: https://beancount.github.io/docs/beancount_language_syntax.html
"""

import hashlib
from decimal import Decimal

from sqlalchemy import Connection, select

from nightingale_hub.clock import to_datetime
from nightingale_hub.tables.billing import entry, journal

# What an account of ours is to an accountant, by the word before its colon.
ROOTS = {
    "accrued": "Assets",
    "receivable": "Assets",
    "cash": "Assets",
    "unbilled": "Liabilities",
    "grant": "Liabilities",
    "provider": "Liabilities",
    "provider_credit": "Assets",
    "revenue": "Income",
    "free": "Income",
    "program_expense": "Expenses",
    "platform_expense": "Expenses",
}


def export_journal(conn: Connection) -> str:
    """Return every journal as beancount's text, each account opened with our name behind it."""
    rows = conn.execute(
        select(
            journal.c.id,
            journal.c.idem_key,
            journal.c.at_us,
            journal.c.description,
            entry.c.account,
            entry.c.amount_micro,
            entry.c.currency,
        )
        .join(entry, entry.c.journal_id == journal.c.id)
        .order_by(journal.c.id, entry.c.id)
    ).all()
    accounts = {row.account for row in rows}
    lines = ['option "operating_currency" "USD"']
    lines += [f"1970-01-01 open {name_account(each)} ; {each}" for each in sorted(accounts)]
    last = None
    for row in rows:
        if row.id != last:
            day = to_datetime(max(0, row.at_us)).strftime("%Y-%m-%d")
            lines.append(f"\n{day} * {_quote(row.idem_key)} {_quote(row.description)}")
            last = row.id
        amount = format(Decimal(row.amount_micro).scaleb(-6), "f")
        lines.append(f"  {name_account(row.account)}  {amount} {row.currency}")
    return "\n".join(lines) + "\n"


def name_account(account: str) -> str:
    """Return beancount's name for one of our accounts: its root, its word, and a hash of the rest.

    Beancount's own names are of letters, digits and hyphens; ours hold whatever a user is called.
    """
    word, _, rest = account.partition(":")
    root = ROOTS.get(word, "Equity")
    title = "-".join(part.capitalize() for part in word.split("_") if part) or "Other"
    return f"{root}:{title}:H{hashlib.sha256(rest.encode()).hexdigest()[:24]}"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
