"""Plans and the price book, as the desk takes them: versions from an instant on, never edited."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from nightingale_hub.errors import BadInput
from nightingale_hub.log_leaf import append_leaf, hash_text
from nightingale_hub.services.billing import plans, prices
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.fields import (
    check_keys,
    parse_amount,
    parse_choice,
    parse_count,
    parse_instant,
    parse_name,
)
from nightingale_hub.tables.billing import price
from nightingale_hub.terms import Plan

Body = Mapping[str, Any]
SHOWN = "cloud region sku currency nano_per_hour effective_us published_us source".split()


def list_plans(visit: Visit, body: Body) -> dict[str, Any]:
    """Return every version of every plan."""
    check_keys(body, ())
    return {"plans": [asdict(each) for each in plans.list_plans(visit.conn)]}


def add_plan(visit: Visit, body: Body) -> dict[str, Any]:
    """Publish a version of a plan, in force from an instant that is to come."""
    visit.require_admin()
    check_keys(
        body, ("name", "start", "basis", "price", "minimum_s", "markup_percent", "free", "storage")
    )
    new = Plan(
        name=parse_name(body, "name"),
        effective_us=parse_instant(body, "start", visit.at_us),
        basis=parse_choice(body, "basis", ("ready", "allocated"), "ready"),
        price=parse_choice(body, "price", ("shown", "book"), "shown"),
        minimum_s=parse_count(body, "minimum_s", 0, plans.MAX_MINIMUM_S),
        markup_ppm=parse_count(body, "markup_percent", 0, 10_000) * 10_000,
        free_micro_per_month=parse_amount(body, "free") if "free" in body else 0,
        bills_storage=parse_choice(body, "storage", ("yes", "no"), "no") == "yes",
    )
    is_new = plans.publish_plan(visit.conn, new, visit.at_us)
    if is_new:
        append_leaf(visit.conn, "plan", {"by": visit.actor, **asdict(new)}, visit.at_us)
    return {"name": new.name, "effective_us": new.effective_us, "is_new": is_new}


def list_prices(visit: Visit, body: Body) -> dict[str, Any]:
    """Return the price book: every price that is or was in force, or is to come."""
    check_keys(body, ())
    rows = visit.conn.execute(
        select(*(price.c[name] for name in SHOWN)).order_by(
            price.c.cloud, price.c.region, price.c.sku, price.c.currency, price.c.effective_us
        )
    )
    return {"prices": [dict(row._mapping) for row in rows]}


def add_prices(visit: Visit, body: Body) -> dict[str, Any]:
    """Take a price list (CSV): all of it, or nothing."""
    check_keys(body, ("csv",))
    return _take(visit, body.get("csv"))


def refresh_prices(visit: Visit, body: Body) -> dict[str, Any]:
    """Take what the clouds ask by a list (CSV), or by the one that came with this version.

    Says what is still older than half a year afterwards.
    """
    check_keys(body, ("csv",))
    text = body.get("csv")
    if text is None:
        text = prices.CLOUD_LIST.read_text(encoding="utf-8")
    taken = _take(visit, text)
    stale = [dict(row._mapping) for row in prices.list_stale(visit.conn, visit.at_us)]
    return {**taken, "stale": stale}


def _take(visit: Visit, text: object) -> dict[str, Any]:
    visit.require_admin()
    if not isinstance(text, str) or len(text) > prices.MAX_LIST_BYTES:
        raise BadInput(f"csv is a price list as text, at most {prices.MAX_LIST_BYTES >> 20} MiB")
    parsed = prices.parse_prices(text.splitlines())
    added = prices.load_prices(visit.conn, parsed, visit.at_us)
    payload = {"by": visit.actor, "added": added, "csv_sha256": hash_text(text)}
    append_leaf(visit.conn, "price_list", payload, visit.at_us)
    return {"added": added, "known": len(parsed) - added}
