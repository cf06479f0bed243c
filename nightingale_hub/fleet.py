"""What the hub's admins ask about the fleet: orphans, quarantines, homes, datasets.

Each change is asked for with a name and a reason, and stands in the tamper-evident log in the
transaction that makes it. What is an instance's is only written down here: the supervisor does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from nightingale_hub import datasets
from nightingale_hub.desk import FLEET_VERBS
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.homes import list_homes
from nightingale_hub.instances import find_last
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.orphans import list_orphans
from nightingale_hub.quarantine import find_quarantine, list_quarantined
from nightingale_hub.requests import MAX_CHARS, Kind, Request, ask
from nightingale_hub.tables.datasets import dataset_grant


@dataclass(frozen=True)
class Visit:
    """One question of the admin *actor*."""

    conn: Connection
    actor: str
    at_us: int
    fields: Mapping[str, str]


def serve(conn: Connection, name: str, actor: str, fields: object, at_us: int) -> dict[str, Any]:
    """Return the answer to the verb *name* of `FLEET_VERBS`; the caller has checked who asks.

    Raises `NotFound`, `BadInput` for a field that is unknown, missing or no text, `Conflict`.
    """
    verb = FLEET_VERBS.get(name)
    if verb is None:
        raise NotFound(f"there is no {name[:40]!r}; there is: {', '.join(FLEET_VERBS)}")
    if not isinstance(fields, Mapping):
        raise BadInput("the fields must be an object")
    for key, value in fields.items():
        if key not in verb.fields:
            raise BadInput(f"{name} has no field {str(key)[:40]!r}")
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_CHARS // 2:
            raise BadInput(f"{key} must be a text of 1 to {MAX_CHARS // 2} characters")
    missing = [key for key, each in verb.fields.items() if each.is_required and key not in fields]
    if missing:
        raise BadInput(f"{name} needs {', '.join(missing)}")
    visit = Visit(conn, actor, at_us, fields)
    answer = _ANSWERS[name](visit)
    if verb.writes:
        append_leaf(conn, "admin", {"verb": name, "actor": actor, "fields": dict(fields)}, at_us)
    return answer


def _orphans(visit: Visit) -> dict[str, Any]:
    return {"orphans": [row._asdict() for row in list_orphans(visit.conn)]}


def _quarantines(visit: Visit) -> dict[str, Any]:
    names = ("owner", "actor", "reason", "since_us")
    rows = list_quarantined(visit.conn)
    return {"quarantined": [{name: getattr(row, name) for name in names} for row in rows]}


def _release(visit: Visit) -> dict[str, Any]:
    owner = visit.fields["user"]
    if find_quarantine(visit.conn, owner) is None:
        raise NotFound(f"{owner!r} is not in quarantine")
    # It was set through an instance of theirs, so there is one.
    row = find_last(visit.conn, owner)
    assert row is not None, owner
    return _ask(visit, row.id, Kind.RELEASE)


def _homes(visit: Visit) -> dict[str, Any]:
    return {"homes": list_homes(visit.conn, visit.fields.get("user"))}


def _remove_home(visit: Visit) -> dict[str, Any]:
    owner, server = visit.fields["user"], visit.fields.get("server", "")
    homes = [
        each
        for each in list_homes(visit.conn, owner)
        if each["server"] == server
        and all(visit.fields.get(name, each[name]) == each[name] for name in ("cloud", "region"))
    ]
    if not homes:
        raise NotFound(f"server {server!r} of {owner!r} has no home there; see home list")
    if len(homes) > 1:
        places = "; ".join(f"{each['cloud']} {each['region']}" for each in homes)
        raise BadInput(f"server {server!r} of {owner!r} has homes in {places}: give cloud, region")
    [home] = homes
    key, state = home["instance"], home["state"]
    if state not in ("stopped", "to be removed"):
        raise Conflict(f"instance {key} of {owner} is {state}; stop it first")
    if visit.fields.get("confirm") != owner:
        raise BadInput(f"confirm must be {owner!r}: the home is removed for ever, with every file")
    return _ask(visit, key, Kind.REMOVE)


def _ask(visit: Visit, instance_id: str, kind: Kind) -> dict[str, Any]:
    wish = Request(instance_id, kind, visit.actor, visit.fields["reason"])
    return {"asked": ask(visit.conn, wish, visit.at_us), "instance": instance_id}


def _datasets(visit: Visit) -> dict[str, Any]:
    granted: dict[str, list[str]] = {}
    for row in visit.conn.execute(select(dataset_grant).order_by(dataset_grant.c.grantee)):
        granted.setdefault(row.dataset, []).append(row.grantee)
    listed = [
        {
            "name": row.name,
            "title": row.title,
            "policy": row.policy,
            "granted_to": ", ".join(granted.get(row.name, [])),
        }
        for row in datasets.list_datasets(visit.conn)
    ]
    return {"datasets": listed}


def _grant(visit: Visit) -> dict[str, Any]:
    name, grantee = visit.fields["dataset"], visit.fields["to"]
    datasets.grant(visit.conn, name, grantee, visit.at_us)
    return {"dataset": name, "granted_to": grantee}


def _withdraw(visit: Visit) -> dict[str, Any]:
    name, grantee = visit.fields["dataset"], visit.fields["to"]
    if not datasets.withdraw(visit.conn, name, grantee):
        raise NotFound(f"dataset {name!r} is not granted to {grantee!r}; see dataset list")
    return {"dataset": name, "withdrawn_from": grantee}


_ANSWERS: dict[str, Callable[[Visit], dict[str, Any]]] = {
    "orphan.list": _orphans,
    "quarantine.list": _quarantines,
    "quarantine.release": _release,
    "home.list": _homes,
    "home.remove": _remove_home,
    "dataset.list": _datasets,
    "dataset.grant": _grant,
    "dataset.withdraw": _withdraw,
}
