"""The metering service put together: its routes and its one loop."""

from nightingale_hub.metrics import MetricsHandler
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.metering.api import BeatHandler, LiveHandler
from nightingale_hub.services.metering.facts import FACTS
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.steady import since_boot_us

STEP_PAUSE_S = 1.0


def make(context: Context) -> Service:
    """Return the service for *context*."""
    meter = Meter(context, since_boot=since_boot_us)
    return Service(
        routes=[
            (r"api/beat", BeatHandler, {"meter": meter}),
            (r"api/live", LiveHandler, {"meter": meter}),
            (r"metrics", MetricsHandler, {"facts": FACTS}),
        ],
        loops=[Loop("meter", STEP_PAUSE_S, meter.step)],
        on_stop=meter.watch.stop,
    )
