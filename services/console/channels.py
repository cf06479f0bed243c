"""The ways by which a person may be told: what a target must look like, and what of it is shown.

A person names an address, never a program's own URL: those could make the hub ask anything.
"""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, delete, func, insert, select

from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.notices import Kind
from nightingale_hub.secrets_at_rest import decrypt, encrypt
from nightingale_hub.tables.notices import notice_channel

WAYS = ("mail", "slack", "webhook")
MAX_CHANNELS = 10
MAX_URL_CHARS = 1000
# RFC 5321 allows more; a hub that mails to quoted names or address literals helps nobody.
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# ref: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/
_SLACK = re.compile(
    r"https://hooks\.slack\.com/services/(T[A-Z0-9]{6,20})/(B[A-Z0-9]{6,20})/([A-Za-z0-9]{16,40})"
)


@dataclass(frozen=True)
class Channel:
    """A way that was asked for and is well-formed."""

    way: str
    label: str
    target: dict[str, str]
    kinds: frozenset[Kind]


def parse_channel(way: str, address: str, kinds: list[str]) -> Channel:
    """Return the channel that a form or a program asks for; raises `BadInput`."""
    if way not in WAYS:
        raise BadInput(f"no way {way[:40]!r}; choose {', '.join(WAYS)}")
    unknown = sorted(set(kinds) - set(Kind))
    if unknown or not kinds:
        raise BadInput(f"choose what you want to be told of: {', '.join(Kind)}")
    address = address.strip()
    chosen = frozenset(Kind(each) for each in kinds)
    if way == "mail":
        if not _MAIL.fullmatch(address) or len(address) > 254:
            raise BadInput(f"{address[:60]!r} is no mail address such as ada@example.org")
        return Channel(way, address, {"address": address}, chosen)
    if way == "slack":
        found = _SLACK.fullmatch(address)
        if found is None:
            raise BadInput("give the incoming webhook, https://hooks.slack.com/services/T…/B…/…")
        tokens = dict(zip(("a", "b", "c"), found.groups(), strict=True))
        return Channel(way, f"Slack workspace {found[1]}", tokens, chosen)
    return Channel(way, *_parse_webhook(address), chosen)


def _parse_webhook(address: str) -> tuple[str, dict[str, str]]:
    try:
        url = urlsplit(address)
        is_usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or len(address) > MAX_URL_CHARS or not address.isprintable():
        raise BadInput(f"{address[:60]!r} is no address such as https://example.org/hook")
    if url.username or url.password or url.fragment or not address.isascii():
        raise BadInput("a webhook's address has no user, password or fragment, and is ASCII")
    # Its path may be what keeps it secret.
    return f"{url.scheme}://{url.netloc}/…", {"url": address, "key": secrets.token_hex(32)}


def add_channel(conn: Connection, key: bytes, owner: str, asked: Channel, at_us: int) -> int:
    """Write *asked* down for *owner*, encrypted with *key*, and return its id.

    Raises `Conflict` for an eleventh.
    """
    query = select(func.count()).select_from(notice_channel).where(notice_channel.c.owner == owner)
    if conn.execute(query).scalar_one() >= MAX_CHANNELS:
        raise Conflict(f"{MAX_CHANNELS} ways are the most; remove one first")
    row = conn.execute(
        insert(notice_channel)
        .values(
            owner=owner,
            way=asked.way,
            label=asked.label,
            target=encrypt(key, asked.target),
            kinds=json.dumps(sorted(asked.kinds)),
            created_us=at_us,
        )
        .returning(notice_channel.c.id)
    )
    return int(row.scalar_one())


def remove_channel(conn: Connection, owner: str, channel_id: int) -> None:
    """Remove *owner*'s channel and what waits for it; raises `NotFound` for another's."""
    removed = conn.execute(
        delete(notice_channel).where(
            notice_channel.c.owner == owner, notice_channel.c.id == channel_id
        )
    ).rowcount
    if removed != 1:
        raise NotFound("No such way of telling you is yours.")


def list_channels(conn: Connection, owner: str) -> list[Row[Any]]:
    """Return *owner*'s channels, oldest first."""
    query = select(notice_channel).where(notice_channel.c.owner == owner)
    return list(conn.execute(query.order_by(notice_channel.c.id)))


def open_target(key: bytes, row: Row[Any]) -> dict[str, str]:
    """Return where the channel *row* leads; raises `ConfigError` with another key."""
    return decrypt(key, row.target)
