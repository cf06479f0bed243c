"""What Prometheus is told of the books."""

from sqlalchemy import Connection, func, select

from nightingale_hub.metrics import Fact, Rows
from nightingale_hub.tables.billing import balance, journal
from nightingale_hub.tables.documents import document


def _imbalance(conn: Connection) -> Rows:
    sums = select(balance.c.currency, func.sum(balance.c.amount_micro)).group_by(balance.c.currency)
    return [(currency, int(micro)) for currency, micro in conn.execute(sums)]


def _journals(conn: Connection) -> Rows:
    return conn.execute(select(func.count()).select_from(journal)).all()


def _invoices(conn: Connection) -> Rows:
    return conn.execute(
        select(document.c.state, func.count())
        .where(document.c.kind == "invoice")
        .group_by(document.c.state)
    ).all()


FACTS = (
    Fact("ledger_imbalance_micro", "The sum of all accounts: 0.", ("currency",), _imbalance),
    Fact("journals_total", "Journals that were posted.", (), _journals),
    Fact("invoices", "Invoices by state.", ("state",), _invoices),
)
