"""One instance of the local cloud, brought up and down by real Terraform."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nightingale_hub.durable import save_json, save_text
from nightingale_hub.instance.detach import find_pids
from nightingale_hub.processes import (
    Identity,
    is_alive,
    list_descendants,
    list_marked,
    parse_identity,
    send_signal,
)
from nightingale_hub.terraform.launcher import find_terraform
from nightingale_hub.terraform.run import Run
from nightingale_hub.terraform.workspace import Workspace, get_module

MODULE = get_module("local", "instance")
TERRAFORM = find_terraform(os.environ["PATH"])
SYSTEM_PATH = "/usr/bin:/bin"
NOBODY_LISTENS = "http://127.0.0.1:9/"


class Cloud:
    """One instance's directory and workspace; its agent waits for a hub that is not there."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "instances" / f"i-{os.urandom(6).hex()}"
        self.directory.mkdir(parents=True, mode=0o700)
        boot = {"hub_url": NOBODY_LISTENS, "instance_id": self.directory.name, "nonce": "n"}
        save_json(self.directory / "boot.json", boot)
        self.workspace = Workspace(state / "terraform" / self.directory.name, MODULE)
        self.workspace.ensure(self.make_variables())

    def make_variables(self, **changed: Any) -> dict[str, Any]:
        return {
            "instance_id": self.directory.name,
            "hub_id": "test",
            "owner_hash": "0123456789abcdef",
            "size": {"type": "local", "vcpus": 1, "gpu": "none", "disk_gib": 10},
            "region": "here",
            "image": sys.executable,
            "network_ref": {
                "id": "loopback",
                "subnets": {},
                "cidr": "127.0.0.0/8",
                "firewall": "",
                "storage": "",
                "group": str(self.state),
            },
            "home_ref": {
                "id": str(self.state / "home"),
                "zone": "here",
                "address": "",
                "path": str(self.state / "home"),
            },
            "bootstrap": {"directory": str(self.directory)},
        } | changed

    def use_python(self, script: str) -> None:
        """Let the provisioners run *script* as their interpreter."""
        path = self.state / "python"
        save_text(path, f"#!/bin/sh\npython={sys.executable}\n{script}\n", 0o700)
        self.workspace.ensure(self.make_variables(image=str(path)))

    async def run(self, action: str, **environment: str) -> list[str]:
        """Run *action* to its good end and return its steps."""
        steps: list[str] = []
        run = await self.workspace.start(action, environment)
        (await run.wait(steps.append)).raise_for_failure()
        return steps

    def list_agents(self) -> list[Identity]:
        mark = self.directory.name
        return [
            each
            for each in list_marked("NIGHTINGALE_INSTANCE_ID", mark)
            if b"nightingale_hub.instance.agent"
            in Path(f"/proc/{each.pid}/cmdline").read_bytes().split(b"\0")
        ]

    @property
    def agent(self) -> Identity:
        pids = find_pids(self.directory)
        assert pids is not None
        return pids.agent

    def close(self) -> None:
        left = list_marked("NIGHTINGALE_INSTANCE_ID", self.directory.name)
        run = self.workspace.find_run()
        if run is not None:
            launcher = find_launcher(run)
            left += [launcher, *list_descendants(launcher.pid)] if is_alive(launcher) else []
        for each in left:
            send_signal(each, signal.SIGKILL)
        assert left == []


@contextmanager
def local_cloud() -> Iterator[Cloud]:
    """Yield a cloud with one instance that is not up yet."""
    state = Path(tempfile.mkdtemp(prefix="nightingale-test-"))
    made = Cloud(state)
    try:
        yield made
        made.close()
    finally:
        shutil.rmtree(state, ignore_errors=True)


def find_launcher(run: Run) -> Identity:
    data = json.loads((run.directory / "pid.json").read_text())
    return parse_identity(data) if data else Identity(0, 0, "")


def find_terraform_process(run: Run) -> Identity | None:
    """Return the launcher's one child, once it runs Terraform itself."""
    for each in list_descendants(find_launcher(run).pid):
        if b"apply" in Path(f"/proc/{each.pid}/cmdline").read_bytes().split(b"\0"):
            return each
    return None
