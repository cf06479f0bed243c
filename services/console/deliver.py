"""Delivers notices: which go which way, tried again with backoff, and what came of each.

At least once: a process that dies between a send and its record sends again. What is about
security always goes; of all else a person gets a bounded number an hour each way, and the pages
hold the rest.
"""

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from apprise import Apprise, NotifyFormat
from sqlalchemy import Connection, Row, func, insert, select, update

from nightingale_hub.clock import US_PER_S, format_time, now_us
from nightingale_hub.errors import BadInput, ConfigError, NightingaleError, Unavailable
from nightingale_hub.notices import Kind
from nightingale_hub.service import Context
from nightingale_hub.services.console import webhook
from nightingale_hub.services.console.channels import list_channels, open_target
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.notices import notice, notice_channel, notice_delivery
from nightingale_hub.text import visible

log = logging.getLogger("nightingale")
PER_HOUR = 20
ATTEMPTS = 8
FIRST_PAUSE_S = 5
MAX_PAUSE_S = 900
AT_ONCE = 8


class Deliverer:
    """The one who sends."""

    def __init__(self, context: Context, clock: Callable[[], int] = now_us) -> None:
        """Deliver what is in *context*'s database; *clock* gives µs."""
        self._context = context
        self._clock = clock

    async def step(self) -> None:
        """Route what is new, then send what is due."""
        at_us = self._clock()
        for row in await self._context.read(_list_unrouted):
            await self._context.write(partial(_route, row=row, at_us=at_us))
        due = await self._context.read(lambda conn: _list_due(conn, at_us))
        await asyncio.gather(*(self._deliver(row) for row in due))

    async def _deliver(self, row: Row[Any]) -> None:
        try:
            await asyncio.to_thread(send, self._context.settings, row, self._clock())
        except (BadInput, ConfigError) as refusal:
            await self._note(row, "failed", str(refusal))
        except NightingaleError as failure:
            await self._fail(row, str(failure))
        else:
            await self._note(row, "sent", "")

    async def _fail(self, row: Row[Any], why: str) -> None:
        if row.attempts + 1 >= ATTEMPTS:
            await self._note(row, "failed", f"given up after {ATTEMPTS} tries: {why}")
            return
        pause_s = min(FIRST_PAUSE_S * 4**row.attempts, MAX_PAUSE_S)
        await self._note(row, "waiting", why, self._clock() + pause_s * US_PER_S)

    async def _note(self, row: Row[Any], state: str, outcome: str, next_try_us: int = 0) -> None:
        def write(conn: Connection) -> None:
            conn.execute(
                update(notice_delivery)
                .where(
                    notice_delivery.c.notice_id == row.notice_id,
                    notice_delivery.c.channel_id == row.channel_id,
                )
                .values(
                    state=state,
                    outcome=visible(outcome)[:500],
                    attempts=row.attempts + 1,
                    next_try_us=next_try_us,
                )
            )

        await self._context.write(write)


def send(settings: NightingaleHub, row: Row[Any], at_us: int) -> None:
    """Send the notice in *row* to the channel in it; waits for the other side.

    Raises `BadInput` or `ConfigError` for what will never go, `Unavailable` for what may later.
    """
    target = open_target(settings.secret_key(), row)
    if row.way == "webhook":
        body = {
            "id": row.notice_id,
            "kind": row.kind,
            "subject": row.subject,
            "body": row.body,
            "at_us": row.at_us,
        }
        content = json.dumps(body).encode()
        networks = [ipaddress.ip_network(each) for each in settings.webhook_networks]
        webhook.send(target["url"], target["key"], content, at_us // US_PER_S, networks)
        return
    if row.way == "mail":
        url = _load_mail_url(settings)
        url += f"{'&' if '?' in url else '?'}to={target['address']}"
    else:
        url = f"slack://{target['a']}/{target['b']}/{target['c']}"
    sender = Apprise()
    # Plain text both ways: what a file is called never becomes markup or a link.
    if not sender.add(f"{url}{'&' if '?' in url else '?'}format=text"):
        raise ConfigError("c.NightingaleHub.mail_url_file holds no address that apprise knows")
    is_taken = sender.notify(
        title=visible(row.subject),
        body=f"{_make_inert(row.body)}\n\n{format_time(row.at_us)}",
        body_format=NotifyFormat.TEXT,
    )
    if not is_taken:
        raise Unavailable(f"the {row.way} server did not take it")


def _load_mail_url(settings: NightingaleHub) -> str:
    if not settings.mail_url_file:
        raise ConfigError("this hub sends no mail; its admin sets c.NightingaleHub.mail_url_file")
    try:
        return Path(settings.mail_url_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        log.error("c.NightingaleHub.mail_url_file cannot be read: %s", error)
        raise Unavailable("the hub cannot read how to send mail; tell its admin") from error


def _make_inert(body: str) -> str:
    return "\n".join(visible(line) for line in body.split("\n"))


def _list_unrouted(conn: Connection) -> list[Row[Any]]:
    query = select(notice).where(notice.c.routed_us.is_(None)).order_by(notice.c.id).limit(200)
    return list(conn.execute(query))


def _route(conn: Connection, row: Row[Any], at_us: int) -> None:
    claimed = conn.execute(
        update(notice)
        .where(notice.c.id == row.id, notice.c.routed_us.is_(None))
        .values(routed_us=at_us)
    )
    if claimed.rowcount != 1:
        return
    for channel in list_channels(conn, row.owner):
        if row.kind not in json.loads(channel.kinds):
            continue
        is_held = row.kind != Kind.SECURITY and _count_recent(conn, channel.id, at_us) >= PER_HOUR
        conn.execute(
            insert(notice_delivery).values(
                notice_id=row.id,
                channel_id=channel.id,
                state="held" if is_held else "waiting",
                outcome=f"more than {PER_HOUR} in an hour" if is_held else "",
                next_try_us=at_us,
            )
        )


def _count_recent(conn: Connection, channel_id: int, at_us: int) -> int:
    query = (
        select(func.count())
        .select_from(notice_delivery)
        .join(notice, notice.c.id == notice_delivery.c.notice_id)
        .where(
            notice_delivery.c.channel_id == channel_id,
            notice_delivery.c.state != "held",
            notice.c.kind != Kind.SECURITY,
            notice.c.routed_us > at_us - 3600 * US_PER_S,
        )
    )
    return int(conn.execute(query).scalar_one())


def _list_due(conn: Connection, at_us: int) -> list[Row[Any]]:
    query = (
        select(
            notice_delivery.c.notice_id,
            notice_delivery.c.channel_id,
            notice_delivery.c.attempts,
            notice_channel.c.way,
            notice_channel.c.target,
            notice.c.kind,
            notice.c.subject,
            notice.c.body,
            notice.c.at_us,
        )
        .join(notice, notice.c.id == notice_delivery.c.notice_id)
        .join(notice_channel, notice_channel.c.id == notice_delivery.c.channel_id)
        .where(notice_delivery.c.state == "waiting", notice_delivery.c.next_try_us <= at_us)
        .order_by(notice_delivery.c.next_try_us)
        .limit(AT_ONCE)
    )
    return list(conn.execute(query))
