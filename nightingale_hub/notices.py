"""Tells a person something, once, in the transaction of what happened; the console delivers it."""

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import IntegrityError

from nightingale_hub.tables.notices import notice

MAX_SUBJECT_CHARS = 200
MAX_BODY_CHARS = 4000


class Kind(StrEnum):
    """What a notice is about; a person chooses by kind what reaches them which way."""

    ERROR = "error"  # something went wrong with an instance
    RUN = "run"  # a run of theirs ended, or a program asked to tell them
    IDLE = "idle"  # an instance will be stopped for want of use
    BUDGET = "budget"  # money runs out
    SECURITY = "security"  # never throttled


def add_notice(
    conn: Connection, owner: str, kind: Kind, subject: str, body: str, key: str, at_us: int
) -> bool:
    """Write down that *owner* is to be told; returns False when *key* was told before.

    Too long a text is cut, since what happened is to be told all the same.
    """
    values = {
        "owner": owner,
        "kind": Kind(kind).value,
        "subject": subject[:MAX_SUBJECT_CHARS],
        "body": body[:MAX_BODY_CHARS],
        "idem_key": key,
        "at_us": at_us,
    }
    try:
        # Of two that tell the same at once the second waits here, then finds it told.
        with conn.begin_nested():
            conn.execute(insert(notice).values(values))
    except IntegrityError:
        return False
    return True


def list_notices(
    conn: Connection, owner: str, after_id: int = 0, limit: int = 50
) -> list[Row[Any]]:
    """Return the newest *limit* notices to *owner* after *after_id*, the newest first."""
    query = select(notice).where(notice.c.owner == owner, notice.c.id > after_id)
    return list(conn.execute(query.order_by(notice.c.id.desc()).limit(limit)))
