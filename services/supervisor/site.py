"""Where an instance of the local cloud lives on this machine, and what Terraform is told of it.

`instances/<id>/` is the agent's and closed to others, `terraform/<id>/` is Terraform's,
`homes/<owner's hash>/` outlives the instance.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from nightingale_hub.catalogue import DISK_GIB, count_vcpus
from nightingale_hub.durable import find_json, save_json
from nightingale_hub.instance.detach import find_pids
from nightingale_hub.instances import owner_hash
from nightingale_hub.processes import is_alive
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.system_users import name_system_user
from nightingale_hub.terraform.workspace import Workspace, get_module


@dataclass(frozen=True)
class Site:
    """One instance's places; made from its record, so any supervisor finds the same."""

    settings: NightingaleHub
    row: Row[Any]
    size: Row[Any] | None = None  # what it is to get: a resize's or a shape's row; None: as is

    @property
    def directory(self) -> Path:
        """The instance's own directory."""
        return self.settings.state_path / "instances" / str(self.row.id)

    @property
    def home(self) -> Path:
        """The owner's home, the same in each of their instances."""
        return self.settings.state_path / "homes" / owner_hash(self.row.owner)

    @property
    def system_user(self) -> str | None:
        """Whom the server runs as, or None for the hub's own user."""
        if not self.settings.isolate_users:
            return None
        return name_system_user(self.settings.secret_key(), self.home.name)

    @property
    def workspace(self) -> Workspace:
        """Terraform's workspace of the instance."""
        return Workspace(
            self.settings.state_path / "terraform" / str(self.row.id),
            get_module(self.row.cloud, "instance"),
        )

    def ensure(self, nonce: str | None) -> None:
        """Put in place what the first boot and Terraform need; None keeps the nonce there is."""
        self.settings.ensure_state()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if nonce is not None:
            boot = {
                "hub_url": self.settings.public_url,
                "instance_id": self.row.id,
                "nonce": nonce,
                "cloud": self.row.cloud,
            }
            save_json(self.directory / "boot.json", boot)
        if self.row.cloud == "local":  # a cloud's values need what it stands on: `ground.prepare`
            self.workspace.ensure(self.list_variables())

    def find_nonce(self) -> str | None:
        """Return the nonce that an instance in a cloud may have been made with, or None.

        What it was made with can't be changed from here, so a later try must go on with it.
        """
        if self.row.cloud == "local":
            return None
        boot = find_json(self.directory / "boot.json")
        return None if boot is None else str(boot["nonce"])

    def list_variables(self) -> dict[str, Any]:
        """Return the local module's variables: no secrets, for they end up in its state."""
        row, size = self.row, self.size or self.row
        return {
            "instance_id": row.id,
            "hub_id": self.settings.hub_id,
            "owner_hash": owner_hash(row.owner),
            "region": row.region,
            "size": {
                "type": size.instance_type,
                "vcpus": count_vcpus(row.cloud, size.instance_type, size.cpu),
                "gpu": size.gpu,
                "disk_gib": DISK_GIB[size.disk],
            },
            "image": sys.executable,
            "network_ref": {
                "id": "loopback",
                "subnets": {},
                "cidr": "127.0.0.0/8",
                "firewall": "",
                "storage": "",
                "group": str(self.settings.state_path),
            },
            "home_ref": {
                "id": str(self.home),
                "zone": row.region,
                "address": "",
                "path": str(self.home),
            },
            "bootstrap": {"directory": str(self.directory)},
            "tags": {"nightingale:server": row.server_name},
        }

    def is_dead(self) -> bool:
        """Tell whether its first process was started here and runs no more: all of it has ended."""
        pids = find_pids(self.directory)
        return pids is not None and not is_alive(pids.agent)

    def remove_home(self) -> None:
        """Remove the owner's home; succeeds when there is none. Raises `OSError`."""
        if self.home.exists():
            shutil.rmtree(self.home)

    def clear(self) -> None:
        """Remove the places of an instance that is gone; the home stays.

        Its directory stays too while it holds unsent records, or the logs of a failed launch.
        """
        self.workspace.remove()
        is_drained = not (self.directory / "ship.json").exists()
        if is_drained and self.row.ready_us is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
