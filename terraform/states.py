"""Terraform's states in the database: encrypted, the last few versions of each, under locks.

A run proves itself by its ticket, which opens one path and is withdrawn with the run: a run that
was given up can neither write a state nor hold a lock any longer.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from nightingale_hub.auth import sha256_hex
from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import BadInput, Conflict, NotAllowed
from nightingale_hub.secrets_at_rest import decrypt, encrypt
from nightingale_hub.tables.terraform import terraform_lock, terraform_state, terraform_ticket

KEPT_VERSIONS = 10
# How long a run of another machine may go on unseen; past it, its machine is taken for dead.
ELSEWHERE_US = 180 * US_PER_S


class Locked(Conflict):
    """Another run holds the state; `info` is what Terraform wrote about the holder."""

    def __init__(self, info: str) -> None:
        """Take the holder's *info*."""
        super().__init__("another run holds this state; wait for it")
        self.info = info


@dataclass(frozen=True)
class Ticket:
    """What a run may present, and for what."""

    secret: str
    path: str


def issue_ticket(conn: Connection, path: str, machine: str, at_us: int) -> Ticket:
    """Return a ticket for *path* to a run on *machine*, and withdraw every earlier one.

    The caller knows that this machine's runs are over. Another machine's may go on for a while
    after it lost its place: raises `Conflict` until its ticket is old.
    """
    elsewhere = conn.execute(
        select(terraform_ticket.c.machine).where(
            terraform_ticket.c.path == path,
            terraform_ticket.c.machine != machine,
            terraform_ticket.c.created_us > at_us - ELSEWHERE_US,
        )
    ).scalar()
    if elsewhere is not None:
        raise Conflict(f"terraform may still be at work on {path} on another machine; wait for it")
    withdraw_tickets(conn, path)
    ticket = Ticket(secrets.token_hex(32), path)
    conn.execute(
        insert(terraform_ticket).values(
            ticket_sha256=sha256_hex(ticket.secret),
            path=path,
            machine=machine,
            created_us=at_us,
        )
    )
    return ticket


def withdraw_tickets(conn: Connection, path: str) -> int:
    """Withdraw every ticket of *path*, whose runs are over; return how many locks that drops."""
    dropped = conn.execute(delete(terraform_lock).where(terraform_lock.c.path == path)).rowcount
    conn.execute(delete(terraform_ticket).where(terraform_ticket.c.path == path))
    return int(dropped)


def find_ticket_path(conn: Connection, secret: str) -> str | None:
    """Return the path that a ticket opens, or None for one that is withdrawn or never was."""
    return conn.execute(
        select(terraform_ticket.c.path).where(
            terraform_ticket.c.ticket_sha256 == sha256_hex(secret)
        )
    ).scalar()


def check_ticket(conn: Connection, secret: str, path: str) -> None:
    """Raise `NotAllowed` unless the ticket opens *path*, now."""
    if find_ticket_path(conn, secret) != path:
        raise NotAllowed("this ticket opens another state, or its run is over")


def find_state(conn: Connection, key: bytes, path: str) -> str | None:
    """Return the newest state at *path*, or None when there is none."""
    content = conn.execute(
        select(terraform_state.c.content)
        .where(terraform_state.c.path == path)
        .order_by(terraform_state.c.version.desc())
        .limit(1)
    ).scalar()
    return None if content is None else str(decrypt(key, content)["state"])


def save_state(
    conn: Connection, key: bytes, path: str, text: str, lock_id: str | None, at_us: int
) -> None:
    """Add *text* as the newest version of the state at *path* and drop what is too old.

    Raises `Locked` while another holds it, `BadInput` for what is no state.
    """
    _parse(text, "version")
    holder = _find_lock(conn, path)
    if holder is not None and holder.lock_id != lock_id:
        raise Locked(holder.info)
    newest = conn.execute(
        select(func.max(terraform_state.c.version)).where(terraform_state.c.path == path)
    ).scalar()
    version = (newest or 0) + 1
    conn.execute(
        insert(terraform_state).values(
            path=path, version=version, at_us=at_us, content=encrypt(key, {"state": text})
        )
    )
    conn.execute(
        delete(terraform_state).where(
            terraform_state.c.path == path, terraform_state.c.version <= version - KEPT_VERSIONS
        )
    )


def remove_state(conn: Connection, path: str) -> None:
    """Forget every version of a state whose resources are gone, its lock and its tickets."""
    conn.execute(delete(terraform_state).where(terraform_state.c.path == path))
    withdraw_tickets(conn, path)


def lock_state(conn: Connection, path: str, info: str, secret: str, at_us: int) -> None:
    """Give the ticket's run the lock of *path*; raises `Locked` with the holder's own words."""
    lock_id = str(_parse(info, "ID")["ID"])
    try:
        with conn.begin_nested():
            conn.execute(
                insert(terraform_lock).values(
                    path=path,
                    lock_id=lock_id,
                    info=info,
                    ticket_sha256=sha256_hex(secret),
                    at_us=at_us,
                )
            )
    except IntegrityError as error:
        holder = _find_lock(conn, path)
        # The same run again: its first request was served, and the answer was lost.
        if holder is None or holder.lock_id != lock_id:
            raise Locked(holder.info if holder else "{}") from error


def unlock_state(conn: Connection, path: str, info: str) -> None:
    """Give up the lock of *path*; without a lock there is nothing to do. Raises `Locked`.

    *info* is Terraform's own, or empty for `force-unlock`.
    """
    holder = _find_lock(conn, path)
    if holder is None:
        return
    if info and _parse(info, "ID")["ID"] != holder.lock_id:
        raise Locked(holder.info)
    conn.execute(delete(terraform_lock).where(terraform_lock.c.path == path))


def _find_lock(conn: Connection, path: str) -> Any:
    return conn.execute(
        select(terraform_lock).where(terraform_lock.c.path == path).with_for_update()
    ).one_or_none()


def _parse(text: str, needed: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput("the request body is not JSON") from error
    if not isinstance(data, dict) or needed not in data:
        raise BadInput(f"the request body must be a JSON object with {needed!r}")
    return data
