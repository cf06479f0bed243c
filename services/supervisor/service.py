"""The supervisor service put together: its routes and its one loop."""

from nightingale_hub.metrics import MetricsHandler
from nightingale_hub.row_lease import LEASE_S
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.supervisor.api import (
    ActivityHandler,
    BootstrapHandler,
    KeepHandler,
    ResizeHandler,
    StopHandler,
)
from nightingale_hub.services.supervisor.facts import FACTS
from nightingale_hub.services.supervisor.grants import GrantsHandler
from nightingale_hub.services.supervisor.hub import Hub
from nightingale_hub.services.supervisor.money import Money
from nightingale_hub.services.supervisor.supervisor import Supervisor
from nightingale_hub.services.supervisor.sweep import SWEEP_PAUSE_S, Sweep

# What a researcher waits for beside the cloud itself; smaller costs a query more per second.
STEP_PAUSE_S = 0.05


def make(context: Context) -> Service:
    """Return the service for *context*."""
    money = Money.from_settings(context.settings)
    supervisor = Supervisor(context, money=money)
    hub = Hub.from_environment()

    async def stop() -> None:
        await supervisor.stop()
        await hub.close()
        if money is not None:
            await money.close()

    return Service(
        routes=[
            (r"metrics", MetricsHandler, {"facts": FACTS}),
            (r"api/bootstrap", BootstrapHandler, {}),
            (r"api/grants", GrantsHandler, {}),
            (r"api/instances/([^/]+)/stop", StopHandler, {"hub": hub}),
            (r"api/instances/([^/]+)/resize", ResizeHandler, {"money": money}),
            (r"api/instances/([^/]+)/keep", KeepHandler, {}),
            (r"api/activity", ActivityHandler, {}),
        ],
        loops=[
            Loop("supervisor", STEP_PAUSE_S, supervisor.step),
            Loop("sweep", SWEEP_PAUSE_S, Sweep(context).step),
            Loop("leases", LEASE_S / 5, supervisor.extend),
        ],
        on_stop=stop,
    )
