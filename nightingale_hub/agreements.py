"""How a person comes to a dataset: its terms, accepted word for word, and a grant, asked for.

A dataset is mounted for who was granted it and accepted its present terms (datasets.list_granted).
Terms that change are to be accepted anew. Every step is a leaf of the audit log.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from nightingale_hub.clock import format_time
from nightingale_hub.datasets import find_grant, get_dataset, grant
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.tables.datasets import dataset, dataset_acceptance, dataset_request

MIN_REASON, MAX_REASON = 10, 2000


class State(StrEnum):
    """How far a person is with a dataset."""

    OPEN = "open"  # granted, terms accepted: it is mounted at the next start
    TERMS = "terms"  # granted; its terms are to be accepted
    ASKED = "asked"  # its owner has not decided
    NONE = "none"  # may be asked for


@dataclass(frozen=True)
class Access:
    """One dataset as one person stands to it."""

    dataset: Row[Any]
    state: State
    until_us: int | None
    request: Row[Any] | None  # the person's last


def list_access(conn: Connection, owner: str, at_us: int) -> list[Access]:
    """Return every dataset, by name, and how *owner* stands to it."""
    found = []
    for row in conn.execute(select(dataset).order_by(dataset.c.name)):
        asked = _find_last_request(conn, row.name, owner)
        given = find_grant(conn, row.name, owner, at_us)
        if given is not None:
            is_agreed = not row.terms or has_accepted(conn, row, owner)
            state = State.OPEN if is_agreed else State.TERMS
        elif asked is not None and asked.decided_us is None:
            state = State.ASKED
        else:
            state = State.NONE
        found.append(Access(row, state, None if given is None else given.until_us, asked))
    return found


def list_unsigned(conn: Connection, owner: str, at_us: int) -> list[Row[Any]]:
    """Return the datasets that *owner* was granted and whose terms they have not accepted."""
    found = list_access(conn, owner, at_us)
    return [each.dataset for each in found if each.state == State.TERMS]


def has_accepted(conn: Connection, row: Row[Any], owner: str) -> bool:
    """Tell whether *owner* accepted the present terms of dataset *row*."""
    known = select(dataset_acceptance.c.version).where(
        dataset_acceptance.c.dataset == row.name,
        dataset_acceptance.c.version == row.terms_version,
        dataset_acceptance.c.owner == owner,
    )
    return conn.execute(known).first() is not None


def accept(conn: Connection, name: str, owner: str, version: int, at_us: int) -> None:
    """Record that *owner* accepts the terms of dataset *name* as they were shown to them.

    Raises `NotFound`, and `Conflict` where the terms changed since *version*.
    """
    row = get_dataset(conn, name)
    if version != row.terms_version:
        raise Conflict(f"the terms of {name} have changed: read them again, then accept")
    if has_accepted(conn, row, owner):
        return
    conn.execute(
        insert(dataset_acceptance).values(
            dataset=name, version=version, owner=owner, terms=row.terms, accepted_us=at_us
        )
    )
    digest = hashlib.sha256(row.terms.encode()).hexdigest()
    leaf = {"dataset": name, "owner": owner, "version": version, "terms_sha256": digest}
    append_leaf(conn, "terms_accepted", leaf, at_us)


def ask_access(conn: Connection, name: str, owner: str, reason: str, at_us: int) -> None:
    """Record that *owner* asks for dataset *name*.

    Raises `NotFound`, `BadInput` for a reason too short or too long, `Conflict` where it is
    granted already or asked for.
    """
    get_dataset(conn, name)
    said = reason.strip()
    if not MIN_REASON <= len(said) <= MAX_REASON:
        raise BadInput(f"Say for what you need it, in {MIN_REASON} to {MAX_REASON} characters.")
    if find_grant(conn, name, owner, at_us) is not None:
        raise Conflict(f"{name} is granted to you already")
    values = {"dataset": name, "owner": owner, "reason": said, "asked_us": at_us}
    try:
        with conn.begin_nested():
            conn.execute(insert(dataset_request).values(values))
    except IntegrityError as error:
        raise Conflict(f"you have asked for {name} already; its owner has not decided") from error
    append_leaf(conn, "access_asked", {"dataset": name, "owner": owner, "reason": said}, at_us)


def list_requests(conn: Connection, names: Collection[str]) -> list[Row[Any]]:
    """Return the open requests for the datasets *names*, oldest first."""
    query = select(dataset_request).where(
        dataset_request.c.decided_us.is_(None), dataset_request.c.dataset.in_(names)
    )
    return list(conn.execute(query.order_by(dataset_request.c.id)))


def get_request(conn: Connection, request_id: int) -> Row[Any]:
    """Return a request; raises `NotFound`."""
    query = select(dataset_request).where(dataset_request.c.id == request_id)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise NotFound("There is no such request.")
    return row


def decide(
    conn: Connection,
    request_id: int,
    decider: str,
    is_granted: bool,
    until_us: int | None,
    note: str,
    at_us: int,
) -> None:
    """Grant or refuse a request, tell who asked, and log it.

    Nobody decides about themself. Raises `NotFound`, `Conflict` for one that is decided, `BadInput`
    for an end that is past and for a refusal without a note.
    """
    row = get_request(conn, request_id)
    if row.owner == decider:
        raise Conflict("Nobody decides about themself: ask another owner of the data.")
    if is_granted and until_us is not None and until_us <= at_us:
        raise BadInput("The access would end before it begins: choose a later day.")
    if not is_granted and not note.strip():
        raise BadInput("Say why it is refused: who asked will read it.")
    verdict = "granted" if is_granted else "refused"
    changed = conn.execute(
        update(dataset_request)
        .where(dataset_request.c.id == request_id, dataset_request.c.decided_us.is_(None))
        .values(verdict=verdict, decided_by=decider, decided_us=at_us, note=note.strip())
    )
    if changed.rowcount != 1:
        raise Conflict("This request is decided already.")
    if is_granted:
        grant(conn, row.dataset, row.owner, at_us, until_us)
    leaf = {"dataset": row.dataset, "owner": row.owner, "by": decider, "verdict": verdict}
    append_leaf(conn, "access_decided", {**leaf, "until_us": until_us, "note": note}, at_us)
    until = f" until {format_time(until_us)}" if is_granted and until_us else ""
    follows = ". Accept its terms on the hub's Data page" if is_granted else ""
    said = f"{verdict} by {decider}{until}{f': {note.strip()}' if note.strip() else ''}{follows}"
    key = f"access:{request_id}"
    add_notice(conn, row.owner, Kind.RUN, f"Dataset {row.dataset}: {verdict}", said, key, at_us)


def _find_last_request(conn: Connection, name: str, owner: str) -> Row[Any] | None:
    return conn.execute(
        select(dataset_request)
        .where(dataset_request.c.dataset == name, dataset_request.c.owner == owner)
        .order_by(dataset_request.c.id.desc())
        .limit(1)
    ).one_or_none()
