"""What a run that died may have left in a cloud: found by tag, adopted by import, ended for sure.

Client tokens are random, so applying again blindly would make a second instance.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from nightingale_hub.errors import Conflict
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.ground import get_cloud
from nightingale_hub.services.supervisor.inventory import Found, Inventory, get_inventory
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.terraform.states import find_state
from nightingale_hub.terraform.workspace import ERRORED, Workspace

ADOPT = "adopt.tf"
RESOURCE = {"aws": ("aws_instance", "instance")}
ENDING = ("shutting-down", "terminated")


async def adopt(
    context: Context, site: Site, workspace: Workspace, action: str, tell: Callable[[str], Any]
) -> None:
    """Have the next run import an instance that exists and is not in the state.

    Nothing is asked before the first run of a workspace: nothing can be there.
    """
    path = workspace.directory / ADOPT
    path.unlink(missing_ok=True)
    if workspace.means is None or workspace.find_run() is None:
        return
    known = await _find_known(context, site)
    # What Terraform could not hand over stands in a file, which the next run pushes first.
    if known is not None or (workspace.directory / ERRORED).exists():
        return
    found = [each for each in await _list_found(site) if each.state not in ENDING]
    if not found or action != "apply":
        return
    kind, name = RESOURCE[site.row.cloud]
    first, *doubles = sorted(found, key=lambda each: (each.launched, each.cloud_id))
    for each in doubles:
        await asyncio.to_thread(_get_inventory(site).terminate, each.cloud_id)
    await tell(f"Found {first.cloud_id} of an earlier try in the cloud, and goes on with it")
    path.write_text(f'import {{\n  to = {kind}.{name}\n  id = "{first.cloud_id}"\n}}\n')


async def confirm(context: Context, site: Site, action: str) -> int | None:
    """After a destroy, have the cloud say itself that nothing is left, and since when, if it does.

    Raises `Conflict`.
    """
    if site.row.cloud == "local" or action != "destroy":
        return None
    found = await _list_found(site)
    left = [each for each in found if each.state not in ENDING]
    for each in left:
        await asyncio.to_thread(_get_inventory(site).terminate, each.cloud_id)
    if left:
        names = ", ".join(each.cloud_id for each in left)
        raise Conflict(f"the cloud still had {names}, which is being ended")
    return max((each.stopped_us for each in found if each.stopped_us is not None), default=None)


def parse_cloud_id(state: str | None, cloud: str) -> str | None:
    """Return the id of the instance in a Terraform *state*, or None when it has none."""
    kind, name = RESOURCE[cloud]
    for each in json.loads(state or "{}").get("resources", []):
        if (each.get("type"), each.get("name")) == (kind, name) and each.get("instances"):
            return str(each["instances"][0]["attributes"]["id"])
    return None


async def _find_known(context: Context, site: Site) -> str | None:
    key, path = site.settings.secret_key(), f"instance/{site.row.id}"
    state = await context.read(lambda conn: find_state(conn, key, path))
    return parse_cloud_id(state, site.row.cloud)


async def _list_found(site: Site) -> list[Found]:
    inventory = _get_inventory(site)
    return await asyncio.to_thread(inventory.list_instances, site.settings.hub_id, str(site.row.id))


def _get_inventory(site: Site) -> Inventory:
    environment = get_cloud(site).get("environment", {})
    inventory = get_inventory(site.row.cloud, site.row.region, environment)
    assert inventory is not None, site.row.cloud
    return inventory
