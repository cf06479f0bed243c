"""A launch, asked for: the record of an instance, written before anything of it exists."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert
from sqlalchemy.exc import IntegrityError

from nightingale_hub.errors import Conflict
from nightingale_hub.homes import check_home_stays
from nightingale_hub.instances import State, find_current
from nightingale_hub.offers import Offer
from nightingale_hub.quarantine import check_quarantine
from nightingale_hub.quotas import Quota, check_quota
from nightingale_hub.shapes import add_shape, to_shape
from nightingale_hub.tables.instances import instance


@dataclass(frozen=True)
class Launch:
    """Who asks for an instance, of what, and what its server is to be started with."""

    owner: str
    server_name: str
    offer: Offer
    secret: bytes  # encrypted: command, arguments, environment
    base_url: str | None = None  # the server's path under the hub's proxy
    groups: Sequence[str] = ()  # the owner's in the hub, which quotas may name
    machine: str | None = None  # where it must be supervised from; None: anywhere
    quota: Quota = field(default_factory=Quota)


def create(conn: Connection, launch: Launch, at_us: int) -> str:
    """Write down that *launch* is wanted and return the new instance's id.

    Raises `Conflict` while the same server's last instance is not gone or a home of its owner is
    to be removed, `NotAllowed` while its owner is in quarantine, `OverQuota`.
    """
    check_quarantine(conn, launch.owner)
    check_home_stays(conn, launch.owner)
    check_quota(conn, launch.quota, launch.owner, launch.offer.size)
    current = find_current(conn, launch.owner, launch.server_name)
    if current is not None:
        raise _not_gone(current)
    instance_id = f"i-{secrets.token_hex(6)}"
    values = {
        "id": instance_id,
        "owner": launch.owner,
        "server_name": launch.server_name,
        "cloud": launch.offer.cloud,
        "region": launch.offer.region,
        **to_shape(launch.offer),
        "wanted": "running",
        "actual": State.REQUESTED,
        "launch_secret": launch.secret,
        "base_url": launch.base_url,
        "created_us": at_us,
        "owner_groups": json.dumps(sorted(launch.groups)),
        "machine": launch.machine,
    }
    try:
        with conn.begin_nested():
            conn.execute(insert(instance).values(values))
            add_shape(conn, instance_id, launch.offer, at_us, "launch")
    except IntegrityError as error:
        # Another process asked for the same server since we looked.
        current = find_current(conn, launch.owner, launch.server_name)
        if current is None:
            raise
        raise _not_gone(current) from error
    return instance_id


def _not_gone(current: Row[Any]) -> Conflict:
    return Conflict(
        f"instance {current.id} of this server is still {current.actual}; wait until it is "
        "gone, then start again"
    )
