"""What an instance in a cloud stands on and what outlives it: its region's network, its home.

Each has a Terraform state of its own and is applied once; as long as neither module nor values
change, a launch only reads what it said of itself. The home is its server's, so that two servers
of one person do not fight for one volume.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from nightingale_hub.catalogue import DISK_GIB
from nightingale_hub.clock import now_us
from nightingale_hub.datasets import list_granted
from nightingale_hub.durable import find_json
from nightingale_hub.errors import ConfigError, Conflict
from nightingale_hub.instances import owner_hash
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.attempts import list_attempts, list_refused_zones
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.tables.terraform import terraform_ground
from nightingale_hub.terraform.means import Means
from nightingale_hub.terraform.run import Phase
from nightingale_hub.terraform.states import remove_state
from nightingale_hub.terraform.template import Template
from nightingale_hub.terraform.workspace import Workspace, get_module
from nightingale_hub.usage import begin_holding, end_holding

# Another process may be making the same ground; a network takes about half a minute.
OTHERS_MAKE_IT_WITHIN_S = 300.0
_making: dict[str, asyncio.Lock] = {}


@dataclass(frozen=True)
class Ground:
    """One part of it: a module, a state and its values."""

    kind: str  # network | home | dataset
    path: str  # of its state
    variables: dict[str, Any]


def get_cloud(site: Site) -> dict[str, Any]:
    """Return what the operator set for the instance's cloud; raises `ConfigError` without it."""
    cloud: dict[str, Any] | None = site.settings.clouds.get(site.row.cloud)
    if cloud is None:
        raise ConfigError(
            f"c.NightingaleHub.clouds has nothing for {site.row.cloud!r}, where {site.row.id} is"
        )
    return cloud


def equip(context: Context, site: Site) -> Workspace:
    """Return the instance's workspace, with means unless it is of this machine."""
    workspace = site.workspace
    if site.row.cloud != "local":
        workspace.means = _means(context, site, "instance", f"instance/{site.row.id}")
    return workspace


async def prepare(
    context: Context, site: Site, workspace: Workspace, action: str, tell: Callable[[str], Any]
) -> None:
    """Make what the instance stands on and give its workspace its values; costs money.

    For a destroy it only reads: what stands on nothing was never made.
    """
    if workspace.means is None:
        return
    cloud = get_cloud(site)
    tried = await context.read(lambda conn: list_attempts(conn, site.row.id))
    refused = list_refused_zones(tried, site.row)

    async def stand_on(ground: Ground) -> dict[str, Any]:
        if action == "apply":
            return await _ensure(context, site, ground, tell)
        row = await context.read(lambda conn: find_ground(conn, ground.path))
        return {} if row is None else dict(json.loads(row.outputs))

    refs: dict[str, Any] = await stand_on(_network(site, cloud))
    if refs:
        refs |= await stand_on(_home(site, cloud, refs["network_ref"], refused))
    if "home_ref" not in refs:
        return
    refs["datasets"] = []
    for dataset in await _list_datasets(context, site, cloud, refs["network_ref"]):
        made = await stand_on(dataset)
        refs["datasets"] += [made["dataset_ref"]] if made else []
    await workspace.means.template.ensure()
    workspace.ensure(_list_variables(site, cloud, refs))


async def remove_home(context: Context, site: Site) -> None:
    """Have Terraform remove the home of a server, for good; one that never was is fine.

    Raises `NightingaleError` while it exists: it may still be attached.
    """
    if site.row.cloud == "local":
        await asyncio.to_thread(site.remove_home)
        return
    cloud = get_cloud(site)
    network = await context.read(lambda conn: find_ground(conn, _network(site, cloud).path))
    if network is None:  # what it would stand on was never made
        return
    home = _home(site, cloud, json.loads(network.outputs)["network_ref"])
    async with _making.setdefault(home.path, asyncio.Lock()):
        if await context.read(lambda conn: find_ground(conn, home.path)) is None:
            return
        means = _means(context, site, home.kind, home.path)
        await means.template.ensure()
        workspace = Workspace(_find_directory(site, home.path), means.template.module, means)
        await _wait_for_others(workspace)
        workspace.ensure(home.variables)
        (await (await workspace.start("destroy")).wait()).raise_for_failure()
        await context.write(lambda conn: _forget(conn, home.path, now_us()))
    await asyncio.to_thread(workspace.remove)


def _forget(conn: Connection, path: str, at_us: int) -> None:
    made = find_ground(conn, path)
    if made is not None:
        end_holding(conn, "disk", str(json.loads(made.outputs)["home_ref"]["id"]), at_us)
    conn.execute(delete(terraform_ground).where(terraform_ground.c.path == path))
    remove_state(conn, path)


def _find_directory(site: Site, path: str) -> Path:
    return site.settings.state_path / "terraform" / path.replace("/", "-")


def find_ground(conn: Connection, path: str) -> Any:
    """Return the row of what was last applied at *path*, or None."""
    query = select(terraform_ground).where(terraform_ground.c.path == path)
    return conn.execute(query).one_or_none()


def save_ground(
    conn: Connection, path: str, fingerprint: str, outputs: Mapping[str, Any], at_us: int
) -> None:
    """Record what was applied at *path*."""
    conn.execute(delete(terraform_ground).where(terraform_ground.c.path == path))
    conn.execute(
        insert(terraform_ground).values(
            path=path, fingerprint=fingerprint, outputs=json.dumps(outputs), applied_us=at_us
        )
    )


def name_home_path(row: Row[Any]) -> str:
    """Return the path of the state of the home that instance *row* uses."""
    return f"home/{name_place(row)}/{name_home(row.owner, row.server_name)}"


def name_place(row: Row[Any]) -> str:
    """Return where *row* is in the path of a state; clouds may share the name of a region."""
    # AWS's are the oldest, and were written without.
    return str(row.region) if row.cloud == "aws" else f"{row.cloud}/{row.region}"


def name_home(owner: str, server_name: str) -> str:
    """Return the id of the home of one server of *owner*."""
    if not server_name:
        return owner_hash(owner)
    return f"{owner_hash(owner)}-{hashlib.sha256(server_name.encode()).hexdigest()[:8]}"


async def _ensure(
    context: Context, site: Site, ground: Ground, tell: Callable[[str], Any]
) -> dict[str, Any]:
    means = _means(context, site, ground.kind, ground.path)
    values = dict(ground.variables)
    if ground.kind == "home":
        # In which order zones were tried changes nothing that is there.
        values["zones"] = sorted(values["zones"])
    text = means.template.fingerprint + json.dumps(values, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    async with _making.setdefault(ground.path, asyncio.Lock()):
        row = await context.read(lambda conn: find_ground(conn, ground.path))
        if row is not None and row.fingerprint == fingerprint:
            return dict(json.loads(row.outputs))
        await tell(f"The {ground.kind} is made first; it is kept for later starts")
        await means.template.ensure()
        directory = _find_directory(site, ground.path)
        workspace = Workspace(directory, means.template.module, means)
        await _wait_for_others(workspace)
        workspace.ensure(ground.variables)
        run = await workspace.start("apply")
        (await run.wait()).raise_for_failure()
        outputs = run.list_outputs()

        def save(conn: Connection) -> None:
            at_us = now_us()
            save_ground(conn, ground.path, fingerprint, outputs, at_us)
            if ground.kind == "home":  # it is billed from here on, whatever becomes of the launch
                home: Any = outputs["home_ref"]
                disk, size = str(home["id"]), site.size or site.row
                begin_holding(conn, site.row.id, "disk", disk, f"disk.{size.disk}", at_us)

        await context.write(save)
        return dict(outputs)


async def _wait_for_others(workspace: Workspace) -> None:
    try:
        async with asyncio.timeout(OTHERS_MAKE_IT_WITHIN_S):
            while (run := workspace.find_run()) is not None and run.look() is Phase.RUNNING:
                await asyncio.sleep(0.3)
    except TimeoutError as error:
        raise Conflict(f"terraform still works in {workspace.directory}; wait for it") from error


def _means(context: Context, site: Site, kind: str, path: str) -> Means:
    settings = site.settings
    templates = settings.state_path / "terraform" / "templates"
    template = Template(templates, get_module(site.row.cloud, kind), settings.terraform_mirror)
    credentials = dict(get_cloud(site).get("environment", {}))
    return Means(settings, context.db, template, path, credentials)


def _network(site: Site, cloud: dict[str, Any]) -> Ground:
    region = site.row.region
    variables = {
        "hub_id": site.settings.hub_id,
        "region": region,
        "zones": cloud["zones"],
        "hub_cidrs": cloud["hub_cidrs"],
    }
    variables |= {name: cloud[name] for name in ("cidr", "group") if name in cloud}
    return Ground("network", f"network/{name_place(site.row)}", variables)


def find_home_zone(conn: Connection, site: Site) -> str:
    """Return the zone that the home of the instance's server is in; empty while there is none."""
    row = find_ground(conn, name_home_path(site.row))
    return "" if row is None else str(json.loads(row.outputs)["home_ref"]["zone"])


def _home(
    site: Site, cloud: dict[str, Any], network_ref: dict[str, Any], refused: Sequence[str] = ()
) -> Ground:
    row, size = site.row, site.size or site.row
    home_id = name_home(row.owner, row.server_name)
    variables = {
        "home_id": home_id,
        "hub_id": site.settings.hub_id,
        "owner_hash": owner_hash(row.owner),
        "region": row.region,
        # A new home is made in the first.
        "zones": sorted(cloud["zones"], key=lambda zone: zone in refused),
        "network_ref": network_ref,
        "disk_gib": DISK_GIB[size.disk],
    }
    return Ground("home", name_home_path(site.row), variables)


async def _list_datasets(
    context: Context, site: Site, cloud: dict[str, Any], network_ref: dict[str, Any]
) -> list[Ground]:
    """Return the datasets of this cloud that the owner may read now."""
    row, at_us = site.row, now_us()
    granted = await context.read(lambda conn: list_granted(conn, row.owner, at_us))
    common = {
        "hub_id": site.settings.hub_id,
        "region": row.region,
        "zones": cloud["zones"],
        "network_ref": network_ref,
    }
    here = cloud.get("datasets", {})
    return [
        Ground(
            "dataset",
            f"dataset/{name_place(row)}/{each.name}",
            {**common, "name": each.name, **here[each.name]},
        )
        for each in granted
        if each.name in here
    ]


def _list_variables(site: Site, cloud: dict[str, Any], refs: dict[str, Any]) -> dict[str, Any]:
    common = site.list_variables()
    boot = find_json(site.directory / "boot.json") or {}
    return {
        **{name: common[name] for name in ("instance_id", "hub_id", "owner_hash", "region")},
        "size": common["size"],
        "tags": {"nightingale:server-hash": name_home("", site.row.server_name)},
        "image": cloud["image"],
        "network_ref": refs["network_ref"],
        "home_ref": refs["home_ref"],
        "datasets": refs["datasets"],
        "bootstrap": boot,
        "spot": bool(cloud.get("spot", False)),
    }
