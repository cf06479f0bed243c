"""The console's addresses, and what its handlers share."""

import hashlib
import hmac
import json
import os

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nightingale_hub.clock import format_duration, format_time
from nightingale_hub.metrics import MetricsHandler
from nightingale_hub.money import format_minor, format_money, format_rate, format_usd
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.console import (
    access,
    account,
    admin,
    api,
    change,
    datasets,
    fleet,
    home,
    money,
    notices,
    page,
    reads,
    resize,
    review,
    statement,
    stop,
)
from nightingale_hub.services.console.deliver import Deliverer
from nightingale_hub.services.console.facts import FACTS
from nightingale_hub.services.console.parts import Parts
from nightingale_hub.text import visible

# How long a notice waits at most before it is sent.
DELIVER_PAUSE_S = 1.0

PAGES = [
    ("", home.Home),
    ("figures", home.Figures),
    ("statement", statement.Statement),
    (r"statement\.csv", statement.StatementCsv),
    ("reads", reads.Reads),
    (r"reads\.csv", reads.ReadsCsv),
    (r"reads\.parquet", reads.ReadsParquet),
    ("readers", access.Readers),
    ("files", access.Files),
    ("manifest", access.ManifestFile),
    ("stop", stop.Stop),
    ("resize", resize.Resize),
    ("resize/live", resize.Live),
    ("notices", notices.Notices),
    ("datasets", datasets.Datasets),
    ("admin", admin.Admin),
    ("admin/fleet", admin.Fleet),
    ("month", account.Month),
    (r"month\.csv", account.MonthCsv),
    (r"month\.pdf", account.MonthPdf),
    ("grants", account.Grants),
    ("budgets", account.Budgets),
    ("invoices", account.Invoices),
    (r"invoice\.pdf", account.InvoicePdf),
    ("prices", account.Prices),
    ("reconciliation", account.Reconciliation),
    ("review", review.Review),
    ("bypass", review.Bypass),
    (r"access\.(csv|pdf)", review.AccessRecord),
    ("oauth_callback", page.Callback),
]
API = [
    ("api/status", api.Status),
    ("api/cost", api.Cost),
    ("api/statement", api.Statement),
    ("api/sizes", api.Sizes),
    ("api/reads", api.Reads),
    ("api/files", api.Files),
    ("api/datasets", datasets.DatasetsApi),
    ("api/manifest", api.Manifest),
    ("api/listing", datasets.Listing),
    ("api/readers", access.ReadersApi),
    ("api/downloads", access.DownloadsApi),
    ("api/stop", api.Stop),
    ("api/resize", change.Resize),
    ("api/extend", change.Extend),
    ("api/notices", notices.NoticesApi),
    (r"api/money/([a-z]+\.[a-z]+)", money.Money),
    (r"api/fleet/([a-z]+\.[a-z]+)", fleet.FleetDesk),
    ("api/quote", money.Quote),
    ("api/compare", money.Compare),
    (r"api/openapi\.json", money.OpenApi),
    ("api(?:/.*)?", api.NoSuchRoute),
]


def make(context: Context) -> Service:
    """Return the console service: routes, HubOAuth, the other parts' client, templates."""
    hub_oauth = page.FreshHubOAuth()
    parts = Parts(context.settings, os.environ["JUPYTERHUB_API_TOKEN"])
    key = hmac.digest(context.settings.secret_key(), b"console cookie", "sha256")
    return Service(
        routes=[
            ("metrics", MetricsHandler, {"facts": FACTS}),
            *((path, handler, {}) for path, handler in (*PAGES, *API)),
            ("static/(.*)", page.Static, {"path": str(page.STATIC)}),
            (".*", page.NoSuchPage, {}),
        ],
        loops=[Loop("deliver", DELIVER_PAUSE_S, Deliverer(context).step)],
        on_stop=parts.close,
        application={
            "parts": parts,
            "api_routes": API,
            "hub_oauth": hub_oauth,
            "cookie_secret": key,
            "templates": load_templates(context.prefix, hub_oauth.hub_prefix),
        },
    )


def load_templates(prefix: str, hub_prefix: str) -> Environment:
    """Return the templates, which escape everything and know the names that pages share."""
    templates = Environment(
        loader=FileSystemLoader(page.STATIC.parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    base_url = hub_prefix.removesuffix("hub/")
    templates.filters.update(
        duration=format_duration,
        minor=format_minor,
        money=format_money,
        rate=format_rate,
        time=format_time,
        usd=format_usd,
        visible=visible,
        result=reads.format_result,
        kinds=lambda text: ", ".join(json.loads(text)),
    )
    templates.globals.update(
        prefix=prefix,
        hub_prefix=hub_prefix,
        version=_static_version(),
        server_path=lambda owner, name: page.server_path(base_url, owner, name),
    )
    return templates


def _static_version() -> str:
    content = b"".join(file.read_bytes() for file in sorted(page.STATIC.iterdir()))
    return hashlib.sha256(content).hexdigest()[:12]
