"""What other parts ask the supervisor to do to an instance: a row that it takes up within a second.

A stop by a budget, a quarantine by audit: written in the asker's own transaction, so it is asked
exactly when what it follows from is recorded. The outcome is written into the row.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub.errors import BadInput
from nightingale_hub.instances import Cause, get
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.offers import Size
from nightingale_hub.tables.supervision import request

MAX_CHARS = 600


class Kind(StrEnum):
    """What may be asked."""

    STOP = "stop"  # the home stays
    RESIZE = "resize"
    QUARANTINE = "quarantine"  # stop all of the owner's instances, and start none until a release
    RELEASE = "release"  # end the owner's quarantine
    REMOVE = "remove"  # remove the home of an instance that is stopped


@dataclass(frozen=True)
class Request:
    """One wish: *reason* is for the instance's owner, *idem_key* names it for ever."""

    instance_id: str
    kind: Kind
    actor: str
    reason: str
    idem_key: str | None = None
    cause: Cause = Cause.ASKED  # of a stop
    size: Size | None = None  # of a resize


def ask(conn: Connection, wish: Request, at_us: int) -> int:
    """Write *wish* down and return its number; the same *idem_key* again returns the first's.

    Raises `NotFound` for an unknown instance, `BadInput` without actor, reason or what it needs.
    """
    get(conn, wish.instance_id)
    if not wish.actor.strip() or not wish.reason.strip():
        raise BadInput(f"a {wish.kind} names who asks and why, for the instance's owner")
    if len(wish.actor) + len(wish.reason) > MAX_CHARS:
        raise BadInput(f"actor and reason together have at most {MAX_CHARS} characters")
    if (wish.size is None) == (wish.kind == Kind.RESIZE):
        raise BadInput("a resize names a size, and nothing else does")
    if wish.idem_key is not None:
        known = conn.execute(
            select(request.c.id).where(request.c.idem_key == wish.idem_key)
        ).scalar()
        if known is not None:
            return int(known)
    detail: dict[str, Any] = {"cause": wish.cause.value}
    if wish.size is not None:
        detail["size"] = {"cpu": wish.size.cpu, "gpu": wish.size.gpu, "disk": wish.size.disk}
    written = conn.execute(
        insert(request)
        .values(
            instance_id=wish.instance_id,
            kind=wish.kind,
            actor=wish.actor,
            reason=wish.reason,
            detail=json.dumps(detail),
            idem_key=wish.idem_key,
            asked_us=at_us,
        )
        .returning(request.c.id)
    )
    number = int(written.scalar_one())
    said = {"request": number, "kind": wish.kind.value, "instance": wish.instance_id}
    said |= {"by": wish.actor, "reason": wish.reason, **detail}
    append_leaf(conn, "request", said, at_us)
    return number


def list_open(conn: Connection, limit: int = 100) -> list[Row[Any]]:
    """Return the requests that nobody has taken up, oldest first."""
    return list(
        conn.execute(
            select(request).where(request.c.done_us.is_(None)).order_by(request.c.id).limit(limit)
        )
    )


def claim(conn: Connection, request_id: int) -> Row[Any] | None:
    """Return a request that is still open, held until the transaction ends; else None."""
    return conn.execute(
        select(request)
        .where(request.c.id == request_id, request.c.done_us.is_(None))
        .with_for_update(skip_locked=True)
    ).one_or_none()


def close(conn: Connection, request_id: int, at_us: int, outcome: str) -> None:
    """Record what became of a request."""
    conn.execute(
        update(request)
        .where(request.c.id == request_id, request.c.done_us.is_(None))
        .values(done_us=at_us, outcome=outcome)
    )


def parse_request(row: Row[Any]) -> Request:
    """Return the wish that *row* holds."""
    detail = json.loads(row.detail)
    return Request(
        instance_id=row.instance_id,
        kind=Kind(row.kind),
        actor=row.actor,
        reason=row.reason,
        idem_key=row.idem_key,
        cause=Cause(detail["cause"]),
        size=Size(**detail["size"]) if "size" in detail else None,
    )
