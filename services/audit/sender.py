"""Who may send: the instance that the stream is of, until a week after it is gone, unrevoked."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from nightingale_hub.auth import find_by_credential
from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import NotAllowed
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.audit import stream
from nightingale_hub.tables.audit import audit_revocation

# So long may a disk that was kept be drained.
DRAIN_FOR_US = 7 * 24 * 3600 * US_PER_S


@dataclass(frozen=True)
class Sender:
    """The instance that sends, and its stream when that was opened."""

    instance: Row[Any]
    stream: Row[Any] | None


def get_sender(conn: Connection, credential: str, stream_id: str, at_us: int) -> Sender:
    """Return who sends with *credential* to *stream_id*; raises `NotAllowed` unless they may."""
    instance_id, _ = stream.parse_stream_id(stream_id)
    instance = get_instance(conn, credential, at_us)
    if instance.id != instance_id:
        raise NotAllowed("this credential is of another instance than this stream")
    return Sender(instance, stream.find(conn, stream_id))


def get_instance(conn: Connection, credential: str, at_us: int) -> Row[Any]:
    """Return the instance that may send with *credential*; raises `NotAllowed` for none."""
    instance = find_by_credential(conn, credential)
    if instance is None:
        raise NotAllowed("no instance has this credential")
    if instance.gone_us is not None and at_us > instance.gone_us + DRAIN_FOR_US:
        raise NotAllowed("this credential has expired: the instance is gone for over 7 days")
    if is_revoked(conn, instance.id):
        raise NotAllowed("this credential was revoked; ask an administrator")
    return instance


def is_revoked(conn: Connection, instance_id: str) -> bool:
    """Return whether nothing of the instance is taken any more."""
    query = select(audit_revocation.c.at_us).where(audit_revocation.c.instance_id == instance_id)
    return conn.execute(query).one_or_none() is not None


def revoke(conn: Connection, instance_id: str, by: str, reason: str, at_us: int) -> bool:
    """Take nothing of the instance from now on, with a leaf; returns False when so already."""
    if is_revoked(conn, instance_id):
        return False
    values = {"instance_id": instance_id, "by": by, "reason": reason}
    conn.execute(insert(audit_revocation).values(**values, at_us=at_us))
    append_leaf(conn, "credential_revoked", values, at_us)
    return True
