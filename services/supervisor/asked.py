"""Takes up what other parts asked for: each request in one transaction, with its outcome."""

import json
import logging
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, select

from nightingale_hub.errors import NightingaleError
from nightingale_hub.homes import want_gone
from nightingale_hub.instances import ENDED, Cause, add_progress, get, want_stopped
from nightingale_hub.offers import Size
from nightingale_hub.quarantine import begin_quarantine, end_quarantine
from nightingale_hub.quotas import find_quota
from nightingale_hub.requests import Kind, Request, claim, close, list_open, parse_request
from nightingale_hub.resizing import Plan, ask_resize, plan_resize
from nightingale_hub.service import Context
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.instances import instance

log = logging.getLogger("nightingale")
ACCEPTED = "accepted"
NOTHING_TO_DO = "nothing to do"


async def take_up_all(context: Context, clock: Callable[[], int]) -> None:
    """Take up every open request."""
    for row in await context.read(list_open):
        await context.write(
            partial(take_up, settings=context.settings, request_id=row.id, at_us=clock())
        )


def take_up(conn: Connection, settings: NightingaleHub, request_id: int, at_us: int) -> None:
    """Do what a request asks, unless another process does, and record its outcome.

    What may not be done is its outcome too: it changes nothing, and the reason is written down.
    """
    row = claim(conn, request_id)
    if row is None:
        return
    try:
        with conn.begin_nested():
            outcome = _do(conn, settings, parse_request(row), at_us)
    except NightingaleError as error:
        outcome = f"refused: {error}"
    except (ValueError, TypeError, KeyError, json.JSONDecodeError):
        log.exception("request %d is malformed", row.id)
        outcome = "refused: the request is malformed"
    log.info(
        "request %d, %s of %s by %s: %s", row.id, row.kind, row.instance_id, row.actor, outcome
    )
    close(conn, row.id, at_us, outcome)


def _do(conn: Connection, settings: NightingaleHub, wish: Request, at_us: int) -> str:
    why = f"{wish.actor}: {wish.reason}"
    owner = get(conn, wish.instance_id).owner
    match wish.kind:
        case Kind.STOP:
            is_new = want_stopped(conn, wish.instance_id, at_us, why, wish.cause)
            return ACCEPTED if is_new else NOTHING_TO_DO
        case Kind.QUARANTINE:
            is_new = begin_quarantine(conn, owner, wish.actor, wish.reason, at_us)
            for key in _list_live(conn, owner):
                is_new |= want_stopped(conn, key, at_us, why, Cause.QUARANTINE)
            return ACCEPTED if is_new else NOTHING_TO_DO
        case Kind.RELEASE:
            is_new = end_quarantine(conn, owner, wish.actor, at_us)
            if is_new:
                add_progress(conn, wish.instance_id, at_us, f"Released by {why}")
            return ACCEPTED if is_new else NOTHING_TO_DO
        case Kind.REMOVE:
            want_gone(conn, wish.instance_id, at_us, why)
            return ACCEPTED
        case Kind.RESIZE:
            assert wish.size is not None
            want_size(conn, settings, wish.instance_id, wish.size, wish.actor, at_us)
            return ACCEPTED


def want_size(
    conn: Connection,
    settings: NightingaleHub,
    instance_id: str,
    size: Size,
    actor: str,
    at_us: int,
) -> Plan:
    """Have *actor*'s wish for *size* written down, and return what it will do.

    Raises what `plan_resize` raises, and `NotFound`.
    """
    plan = plan_size(conn, settings, instance_id, size, at_us)
    ask_resize(conn, get(conn, instance_id), plan, actor, at_us)
    return plan


def plan_size(
    conn: Connection, settings: NightingaleHub, instance_id: str, size: Size, at_us: int
) -> Plan:
    """Return what giving an instance *size* will do; raises as `want_size`, changes nothing."""
    row = get(conn, instance_id)
    quota = find_quota(settings.quotas, row.owner, json.loads(row.owner_groups))
    return plan_resize(conn, row, size, quota, at_us)


def _list_live(conn: Connection, owner: str) -> list[str]:
    return list(
        conn.execute(
            select(instance.c.id).where(instance.c.owner == owner, instance.c.actual.not_in(ENDED))
        ).scalars()
    )
