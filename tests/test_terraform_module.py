"""The module of a local instance: what it makes, changes, refuses and takes away."""

import json
import os
import shutil
import subprocess

import pytest

from nightingale_hub.errors import ConfigError, TerraformFailed
from nightingale_hub.terraform.workspace import Workspace, get_module
from tests.terraform_cloud import (
    MODULE,
    TERRAFORM,
)


@pytest.mark.parametrize("command", [["fmt", "-check", "-diff"], ["validate"]])
def test_the_module_is_formatted_and_valid(command, tmp_path):
    for source in MODULE.glob("*.tf"):
        shutil.copy(source, tmp_path)
    done = subprocess.run(
        [*TERRAFORM, *command],
        cwd=tmp_path,
        env=os.environ | {"TF_CLI_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_apply_brings_an_instance_up_and_destroy_takes_it_away(cloud):
    steps = await cloud.run("apply")
    assert "terraform_data.instance: Creating..." in steps
    assert steps[-1] == "Apply complete! Resources: 3 added, 0 changed, 0 destroyed."
    assert len(cloud.list_agents()) == 1
    assert cloud.workspace.list_outputs() == {
        "cloud_id": f"local/{cloud.directory.name}",
        "identity_subject": f"local/{cloud.directory.name}",
        "endpoint": "",
        "private_ip": "127.0.0.1",
        "zone": "here",
        "home_id": str(cloud.state / "home"),
        "state": "running",
    }
    steps = await cloud.run("destroy")
    assert steps[-1] == "Destroy complete! Resources: 3 destroyed."
    assert cloud.list_agents() == []
    assert cloud.workspace.list_outputs() == {}


async def test_destroying_what_never_was_succeeds(cloud):
    await cloud.run("destroy")
    untouched = Workspace(cloud.state / "terraform" / "i-never", MODULE)
    result = await (await untouched.start("destroy")).wait()
    assert result.exit_status == 0


async def test_a_new_size_leaves_the_instance_running(cloud):
    await cloud.run("apply")
    agent = cloud.agent
    size = {"type": "local", "vcpus": 2, "gpu": "none", "disk_gib": 10}
    cloud.workspace.ensure(cloud.make_variables(size=size))
    await cloud.run("apply")
    assert cloud.list_agents() == [agent]
    assert json.loads((cloud.directory / "size.json").read_text()) == {"vcpus": 2}
    await cloud.run("destroy")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance_id", "../etc"),
        ("hub_id", "A Hub"),
        ("owner_hash", "alice"),
        ("bootstrap", {"directory": "relative"}),
        ("image", "python3"),
        ("size", {"type": "local", "vcpus": 0, "gpu": "none", "disk_gib": 10}),
    ],
)
async def test_a_wrong_value_is_refused_before_anything_exists(cloud, name, value):
    cloud.workspace.ensure(cloud.make_variables(**{name: value}))
    run = await cloud.workspace.start("apply")
    with pytest.raises(TerraformFailed, match="Invalid value for variable"):
        (await run.wait()).raise_for_failure()
    assert cloud.list_agents() == []
    assert not (cloud.directory / "agent.pid").exists()


def test_a_cloud_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="instance on 'mars'"):
        get_module("mars", "instance")
