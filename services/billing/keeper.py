"""Keeps each hold ahead of its instance, and ends what no budget pays for any more.

Warned first, while the hold still pays for the grace; then made small where the budget says so,
else stopped. Asked of the supervisor by request rows, in the transaction that records it.
"""

import logging
from typing import Any

from sqlalchemy import Connection, Row, update

from nightingale_hub import instances, resizing
from nightingale_hub.clock import US_PER_S, format_time
from nightingale_hub.errors import NoOffer, NotFound
from nightingale_hub.instances import SERVES, Cause, add_progress
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.offers import Size, find_offer
from nightingale_hub.requests import Kind as Wish
from nightingale_hub.requests import Request
from nightingale_hub.requests import ask as ask_supervisor
from nightingale_hub.services.billing import reach
from nightingale_hub.services.billing.alerts import note_alerts, tell_alert
from nightingale_hub.services.billing.budgets import list_live_holds, stand
from nightingale_hub.services.billing.burning import burn_grants
from nightingale_hub.services.billing.holds import (
    Wanted,
    find_hold,
    find_rate,
    release_if_over,
    resized,
)
from nightingale_hub.services.billing.payer import lock_customer
from nightingale_hub.services.billing.room import Room, affordable_seconds, find_room
from nightingale_hub.tables.budgets import hold
from nightingale_hub.terms import Terms, resolve_terms

log = logging.getLogger("nightingale")
ACTOR = "billing"
SMALL = "S"


def list_kept(conn: Connection) -> list[str]:
    """Return the instances whose holds are not released, oldest first."""
    return [row.instance_id for row in list_live_holds(conn)]


def keep(conn: Connection, instance_id: str, at_us: int) -> None:
    """Bring the hold of one instance up to date; warn, degrade or stop when that is due."""
    kept = find_hold(conn, instance_id)
    if kept is None or kept.state == "released":
        return
    row = instances.get(conn, instance_id)
    terms = resolve_terms(conn, row.owner, row.created_us)
    lock_customer(conn, terms.customer, at_us)
    is_over = release_if_over(conn, row, kept, at_us)
    if is_over or row.ready_us is None or kept.state == "stopped":
        return
    burn_grants(conn, terms.customer.id, at_us)
    _extend(conn, row, kept, terms, at_us)


def _extend(conn: Connection, row: Row[Any], kept: Row[Any], terms: Terms, at_us: int) -> None:
    elapsed = max(0, -(-(at_us - row.ready_us) // US_PER_S))
    nano = _find_rate(conn, row, terms, at_us)
    wanted = max(elapsed + reach.AHEAD_S, terms.plan.minimum_s)
    is_far = kept.seconds - elapsed > reach.AHEAD_S - reach.EXTEND_EVERY_S
    if is_far and nano == kept.nano_per_hour and kept.state in ("held", "degraded"):
        return
    room = find_room(conn, terms.customer, row, kept.project, nano, at_us)
    [posted] = [
        int(each.posted_s)
        for each in list_live_holds(conn, kept.customer)
        if each.instance_id == row.id
    ]
    back = kept.disk_micro
    if room.degrades and kept.state != "degraded":
        back += _small_price(conn, row, terms, at_us)
    got = posted + affordable_seconds(room, nano, back, max(0, wanted - posted))
    # Never less than what has run: that is spent, whatever a lowered limit says.
    seconds = max(got, elapsed)
    values: dict[str, Any] = {"seconds": seconds, "nano_per_hour": nano, "changed_us": at_us}
    if got >= wanted:
        values |= {"state": "degraded" if kept.state == "degraded" else "held", "stop_us": None}
    else:
        stop_us = row.ready_us + (got - reach.STOP_P99_S) * US_PER_S
        values |= {"stop_us": stop_us}
        if kept.state == "held":
            values["state"] = "warned"
        if kept.stop_us is None:
            _warn(conn, row, room, stop_us, at_us)
    conn.execute(update(hold).where(hold.c.instance_id == row.id).values(**values))
    _alert(conn, room, row.owner, got < wanted, at_us)
    if got < wanted and at_us >= values["stop_us"] and row.wanted == "running":
        _end(conn, row, kept, room, terms, at_us)


def _find_rate(conn: Connection, row: Row[Any], terms: Terms, at_us: int) -> int:
    """Return what an hour costs at most: at its size, or at the one that it is about to get."""
    nano = find_rate(conn, row, terms, at_us)
    wish = resizing.find_open(conn, row.id)
    if wish is None:
        return nano
    size = Size(wish.cpu, wish.gpu, wish.disk)
    wanted = Wanted(size, wish.instance_type, wish.nano_usd_per_hour)
    return max(nano, find_rate(conn, resized(row, wanted), terms, at_us))


def _warn(conn: Connection, row: Row[Any], room: Room, stop_us: int, at_us: int) -> None:
    what = "be made small" if room.degrades else "stop"
    message = (
        f"The money ends: {room.because}. Save your work: this instance will {what} at "
        f"{format_time(max(stop_us, at_us))} unless the budget is raised"
    )
    add_progress(conn, row.id, at_us, message)
    subject = f"The money for {row.id} ends"
    # Again where a raised budget ran out once more.
    add_notice(conn, row.owner, Kind.BUDGET, subject, message, f"money:{row.id}:{stop_us}", at_us)


def _alert(conn: Connection, room: Room, owner: str, is_cut: bool, at_us: int) -> None:
    for each in room.standings:
        fresh = stand(conn, each.row, at_us)
        new = note_alerts(conn, fresh, at_us, is_cut=is_cut and each is room.limiting)
        if not new:
            continue
        log.warning("budget %s of %s: %d %%", each.row.id, each.row.customer, new[-1])
        tell_alert(conn, fresh, new[-1], owner, at_us)


def _end(
    conn: Connection, row: Row[Any], kept: Row[Any], room: Room, terms: Terms, at_us: int
) -> None:
    reason = f"the budget has ended: {room.because}"
    small = _small(row)
    if room.degrades and kept.state != "degraded" and small is not None and row.actual in SERVES:
        wish = Request(
            row.id, Wish.RESIZE, ACTOR, reason, idem_key=f"budget-small:{row.id}", size=small
        )
        state = "degraded"
    else:
        wish = Request(
            row.id, Wish.STOP, ACTOR, reason, idem_key=f"budget-stop:{row.id}", cause=Cause.BUDGET
        )
        state = "stopped"
    ask_supervisor(conn, wish, at_us)
    conn.execute(
        update(hold)
        .where(hold.c.instance_id == row.id)
        .values(state=state, changed_us=at_us, stop_us=None)
    )


def _small(row: Row[Any]) -> Size | None:
    """Return the small CPU size, or None for an instance that has it."""
    small = Size(SMALL, "none", row.disk)
    return None if Size(row.cpu, row.gpu, row.disk) == small else small


def _small_price(conn: Connection, row: Row[Any], terms: Terms, at_us: int) -> int:
    """Return what is kept back so that a small size may run on for a while."""
    small = _small(row)
    if small is None:
        return 0
    try:
        offer = find_offer(conn, row.cloud, row.region, small, at_us)
    except (NoOffer, NotFound):
        return 0
    return reach.price_of(reach.DEGRADED_S, terms.plan.mark_up(offer.nano_usd_per_hour))
