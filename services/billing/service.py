"""The billing service put together: its routes and its one loop."""

from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.billing.api import (
    CostHandler,
    LedgerHandler,
    StatementHandler,
)
from nightingale_hub.services.billing.biller import Biller

RATE_PAUSE_S = 1.0


def make(context: Context) -> Service:
    """Return the service for *context*."""
    biller = Biller(context)
    return Service(
        routes=[
            (r"api/cost", CostHandler, {}),
            (r"api/statement", StatementHandler, {}),
            (r"api/ledger/check", LedgerHandler, {}),
        ],
        loops=[Loop("bill", RATE_PAUSE_S, biller.step)],
    )
