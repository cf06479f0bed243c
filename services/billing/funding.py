"""Who pays for a line's amount: a customer who will be invoiced for it."""

from sqlalchemy import Connection

from nightingale_hub.services.billing.ledger import Accounts, Entry
from nightingale_hub.services.billing.lines import Line


def fund(_conn: Connection, line: Line, due_micro: int, _at_us: int) -> tuple[Entry, ...]:
    """Return the entries by which *due_micro* of *line* is paid; negative for a credit."""
    accounts = Accounts(line.terms.customer.id)
    return (
        Entry(accounts.accrued, due_micro, line.currency),
        Entry(accounts.unbilled, -due_micro, line.currency),
    )
