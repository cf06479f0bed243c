"""Datasets and who was granted them. Only a granted dataset is ever mounted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, or_, select, update

from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.log_leaf import append_leaf, hash_text
from nightingale_hub.suspensions import find_suspension
from nightingale_hub.tables.datasets import dataset, dataset_acceptance, dataset_grant

EVERYONE = "*"
POLICIES = ("strict", "ranges", "opens")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Dataset:
    """A dataset as its owner describes it; *path* is never shown to a researcher.

    *policy* is how its reads are audited (docs/audit-mount.md). An instance that cannot keep it
    serves by *fallback*, or, without one, not at all.
    """

    name: str
    title: str
    description: str
    terms: str
    path: str
    policy: str = "strict"
    fallback: str | None = None


def may_report(
    owners: Mapping[str, Sequence[str]], dataset: str, reviewer: str, is_admin: bool
) -> bool:
    """Tell whether *reviewer* may see who read *dataset*: its owner, or an admin without one."""
    return reviewer in owners[dataset] if dataset in owners else is_admin


def ensure_dataset(conn: Connection, described: Dataset) -> None:
    """Write *described*, new or changed. Raises `BadInput` for a name that is no plain word."""
    if not _NAME.fullmatch(described.name):
        raise BadInput(
            f"dataset name {described.name!r} must be lower-case letters, digits, '.', '_' or '-'"
        )
    for policy in (described.policy, described.fallback or described.policy):
        if policy not in POLICIES:
            raise BadInput(
                f"audit policy {policy!r} of {described.name}: choose {', '.join(POLICIES)}"
            )
    values: dict[str, Any] = asdict(described)
    row = conn.execute(select(dataset).where(dataset.c.name == described.name)).one_or_none()
    if row is None:
        conn.execute(insert(dataset).values(values))
    elif any(row._mapping[name] != value for name, value in values.items()):
        if row.terms != described.terms:
            values["terms_version"] = row.terms_version + 1  # to be accepted anew
        conn.execute(update(dataset).where(dataset.c.name == described.name).values(values))
    else:
        return
    said = {name: values[name] for name in ("name", "title", "path", "policy", "fallback")}
    said |= {"terms_sha256": hash_text(described.terms)}
    append_leaf(conn, "dataset", said, now_us())


def get_dataset(conn: Connection, name: str) -> Row[Any]:
    """Return a dataset; raises `NotFound`."""
    row = conn.execute(select(dataset).where(dataset.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"there is no dataset {name[:60]!r}")
    return row


def find_grant(conn: Connection, name: str, user: str, at_us: int) -> Row[Any] | None:
    """Return what lets *user* have dataset *name* at *at_us*, the longest there is, or None."""
    rows = conn.execute(
        select(dataset_grant).where(dataset_grant.c.dataset == name, _is_given(user, at_us))
    ).all()
    return max(rows, key=lambda row: row.until_us or 2**63, default=None)


def grant(
    conn: Connection, name: str, grantee: str, at_us: int, until_us: int | None = None
) -> None:
    """Let *grantee* (a user name, or `*`) have dataset *name*, until *until_us* or for good.

    Granting again changes nothing but the end. Raises `NotFound`.
    """
    if conn.execute(select(dataset.c.name).where(dataset.c.name == name)).first() is None:
        raise NotFound(f"no dataset {name!r} to grant")
    key = (dataset_grant.c.dataset == name) & (dataset_grant.c.grantee == grantee)
    row = conn.execute(select(dataset_grant.c.until_us).where(key)).one_or_none()
    if row is None:
        conn.execute(
            insert(dataset_grant).values(
                dataset=name, grantee=grantee, granted_us=at_us, until_us=until_us
            )
        )
    elif row.until_us != until_us:
        conn.execute(update(dataset_grant).where(key).values(until_us=until_us))
    else:
        return
    said = {"dataset": name, "grantee": grantee, "until_us": until_us}
    append_leaf(conn, "dataset_grant", said, at_us)


def withdraw(conn: Connection, name: str, grantee: str) -> bool:
    """Take a grant back: mounts that run refuse new opens within seconds. Return whether it was."""
    key = (dataset_grant.c.dataset == name) & (dataset_grant.c.grantee == grantee)
    if conn.execute(delete(dataset_grant).where(key)).rowcount == 0:
        return False
    append_leaf(conn, "dataset_withdrawn", {"dataset": name, "grantee": grantee}, now_us())
    return True


def list_datasets(conn: Connection) -> list[Row[Any]]:
    """Return every dataset, by name."""
    return list(conn.execute(select(dataset).order_by(dataset.c.name)))


def list_granted(conn: Connection, user: str, at_us: int | None = None) -> list[Row[Any]]:
    """Return the datasets that *user* may mount at *at_us*, by default now, by name.

    Those that they were granted and whose present terms, if it has any, they accepted. While they
    are suspended there are none: they are not mounted, and a mount refuses to open them.
    """
    at_us = now_us() if at_us is None else at_us
    if find_suspension(conn, user, at_us) is not None:
        return []
    granted = select(dataset_grant.c.dataset).where(_is_given(user, at_us))
    accepted = (
        select(dataset_acceptance.c.owner)
        .where(
            dataset_acceptance.c.dataset == dataset.c.name,
            dataset_acceptance.c.version == dataset.c.terms_version,
            dataset_acceptance.c.owner == user,
        )
        .exists()
    )
    query = select(dataset).where(dataset.c.name.in_(granted), or_(dataset.c.terms == "", accepted))
    return list(conn.execute(query.order_by(dataset.c.name)))


def _is_given(user: str, at_us: int) -> ColumnElement[bool]:
    return and_(
        dataset_grant.c.grantee.in_((user, EVERYONE)),
        or_(dataset_grant.c.until_us.is_(None), dataset_grant.c.until_us > at_us),
    )
