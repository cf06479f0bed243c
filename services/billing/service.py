"""The billing service put together: its routes and its loops."""

from nightingale_hub.metrics import MetricsHandler
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.billing.api import (
    CostHandler,
    LedgerHandler,
    StatementHandler,
)
from nightingale_hub.services.billing.biller import Biller
from nightingale_hub.services.billing.counter import ROUTES
from nightingale_hub.services.billing.facts import FACTS
from nightingale_hub.services.billing.treasurer import Treasurer

RATE_PAUSE_S = 1.0
KEEP_PAUSE_S = 2.0


def make(context: Context) -> Service:
    """Return the service for *context*."""
    biller = Biller(context)
    treasurer = Treasurer(context)
    return Service(
        routes=[
            (r"metrics", MetricsHandler, {"facts": FACTS}),
            (r"api/cost", CostHandler, {}),
            (r"api/statement", StatementHandler, {}),
            (r"api/ledger/check", LedgerHandler, {}),
            *ROUTES,
        ],
        loops=[
            Loop("bill", RATE_PAUSE_S, biller.step),
            Loop("treasurer", KEEP_PAUSE_S, treasurer.step),
        ],
    )
