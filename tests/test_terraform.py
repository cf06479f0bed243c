"""Terraform runs that are killed, interrupted and picked up again, with real Terraform."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from nightingale_hub.durable import save_json
from nightingale_hub.errors import Conflict, TerraformFailed
from nightingale_hub.processes import (
    find_identity,
    is_alive,
    list_session,
    send_signal,
    wait_gone,
)
from nightingale_hub.terraform.journal import Journal
from nightingale_hub.terraform.launcher import find_terraform
from nightingale_hub.terraform.run import Phase, Run
from nightingale_hub.terraform.workspace import Workspace
from tests.local_instance import wait_for
from tests.terraform_cloud import (
    MODULE,
    SYSTEM_PATH,
    find_launcher,
    find_terraform_process,
)


async def wait_until(run: Run, text: str) -> None:
    """Wait until the journal of *run* holds *text*."""
    journal = run.directory / "journal.ndjson"
    await asyncio.to_thread(wait_for, lambda: text in journal.read_text())


@pytest.mark.parametrize(
    "wrapper",
    [
        pytest.param('sleep 1; exec "$python" "$@"', id="before it starts"),
        pytest.param('"$python" "$@"; sleep 1', id="after it started"),
    ],
)
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("then", ["apply", "destroy"])
async def test_an_apply_that_is_killed_or_interrupted_leaves_one_instance_or_none(
    cloud, wrapper, fault, then
):
    cloud.use_python(wrapper)
    run = await cloud.workspace.start("apply")
    await wait_until(run, "terraform_data.instance: (local-exec): Executing")
    if wrapper.startswith('"$python"'):
        await asyncio.to_thread(wait_for, cloud.list_agents)
    if fault is signal.SIGINT:
        assert run.cancel()
    else:
        terraform = find_terraform_process(run)
        assert terraform is not None
        assert send_signal(terraform, fault)
    result = await run.wait()
    assert result.exit_status not in (0, None)
    assert list_session(find_launcher(run).pid) == []  # nobody is left to start something late
    cloud.use_python('exec "$python" "$@"')
    await cloud.run(then)
    assert len(cloud.list_agents()) == (1 if then == "apply" else 0)
    assert not (cloud.workspace.directory / ".terraform.tfstate.lock.info").exists()
    await cloud.run("destroy")
    assert cloud.list_agents() == []


async def test_a_failing_create_says_why_and_destroy_leaves_nothing(cloud):
    cloud.use_python(
        'case "$*" in *" up") "$python" "$@"; echo the disk is full; exit 3;; esac\n'
        'exec "$python" "$@"'
    )
    run = await cloud.workspace.start("apply")
    result = await run.wait()
    with pytest.raises(TerraformFailed, match=r"local-exec provisioner error.*the disk is full"):
        result.raise_for_failure()
    assert len(cloud.list_agents()) == 1
    await cloud.run("destroy")
    assert cloud.list_agents() == []


async def test_a_run_outlives_who_asked_and_is_picked_up_by_a_successor(cloud):
    cloud.use_python('sleep 1; exec "$python" "$@"')
    asks_and_waits = (
        "import asyncio, sys, time\n"
        "from pathlib import Path\n"
        "from nightingale_hub.terraform.workspace import Workspace\n"
        "workspace = Workspace(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "asyncio.run(workspace.start('apply'))\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", asks_and_waits, str(cloud.workspace.directory), str(MODULE)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        # All of its session, as when a terminal closes.
        os.killpg(first.pid, signal.SIGKILL)
    run = Workspace(cloud.workspace.directory, MODULE).find_run()
    assert run is not None
    assert run.look() is Phase.RUNNING
    with pytest.raises(Conflict, match="still runs"):
        await cloud.workspace.start("destroy")
    steps: list[str] = []

    async def tell(step: str) -> None:
        steps.append(step)

    assert (await run.wait(tell)).exit_status == 0
    assert steps[-1].startswith("Apply complete!")
    assert run.look() is Phase.FINISHED
    steps.clear()
    assert (await run.wait(tell)).exit_status == 0
    assert steps == []  # each is told once
    await cloud.run("destroy")


async def test_a_run_whose_launcher_died_is_unknown_and_its_rest_is_waited_for(cloud):
    cloud.use_python('trap "" INT; sleep 1; exec "$python" "$@"')
    run = await cloud.workspace.start("apply")
    await wait_until(run, "terraform_data.instance: (local-exec): Executing")
    launcher = find_launcher(run)
    rest = list_session(launcher.pid)
    assert len(rest) > 1
    send_signal(launcher, signal.SIGKILL)
    assert wait_gone(launcher, 5)
    assert run.look() is Phase.UNKNOWN
    result = await run.wait()
    with pytest.raises(TerraformFailed, match="was killed"):
        result.raise_for_failure()
    await cloud.run("apply")
    assert [each for each in rest if is_alive(each)] == []
    assert len(cloud.list_agents()) == 1
    await cloud.run("destroy")


async def test_a_run_from_before_a_reboot_is_unknown(cloud):
    run = await cloud.workspace.start("apply")
    await run.wait()
    ourselves = find_identity(os.getpid())
    assert ourselves is not None
    (run.directory / "status.json").unlink()
    save_json(run.directory / "pid.json", ourselves.to_dict())
    assert run.look() is Phase.RUNNING
    save_json(run.directory / "pid.json", {**ourselves.to_dict(), "boot_id": "the last"})
    assert run.look() is Phase.UNKNOWN
    await cloud.run("destroy")


async def test_a_launcher_that_comes_late_does_nothing_once_its_run_is_given_up(cloud):
    run = Run(cloud.workspace.directory / "runs" / "000001-apply")
    run.directory.mkdir(parents=True)
    save_json(run.directory / "environment.json", {})
    assert run.look() is Phase.UNKNOWN
    late = [sys.executable, "-m", "nightingale_hub.terraform.launcher", str(run.directory)]
    subprocess.run([*late, "apply", "-auto-approve"], cwd=cloud.workspace.directory, check=True)
    assert (run.directory / "journal.ndjson").read_text() == ""
    assert run.look() is Phase.UNKNOWN


async def test_a_run_gets_its_listed_environment_and_little_of_ours(cloud, monkeypatch):
    monkeypatch.setenv("TF_VAR_hub_id", "leaked")
    monkeypatch.setenv("TF_CLI_ARGS", "-leaked")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "leaked")
    cloud.use_python(f'env > {cloud.state}/seen; exec "$python" "$@"')
    await cloud.run("apply", LISTED="yes")
    seen = (cloud.state / "seen").read_text()
    assert "leaked" not in seen
    assert "LISTED=yes" in seen
    await cloud.run("destroy")


async def test_values_and_credentials_are_readable_by_their_owner_alone(cloud):
    await cloud.run("apply", CLOUD_CREDENTIAL="hush")
    run = cloud.workspace.find_run()
    assert run is not None
    assert not (run.directory / "environment.json").exists()
    for path in [cloud.workspace.directory, *cloud.workspace.directory.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, path
        assert path.is_dir() or "hush" not in path.read_text(), path
    await cloud.run("destroy")


@pytest.mark.skipif(
    len(find_terraform(SYSTEM_PATH)) == 1, reason="a terraform on the system's path hides ours"
)
async def test_a_machine_without_terraform_uses_the_bundled_one(cloud):
    await cloud.run("apply", PATH=SYSTEM_PATH)
    assert len(cloud.list_agents()) == 1
    await cloud.run("destroy", PATH=SYSTEM_PATH)
    assert cloud.list_agents() == []


@pytest.mark.skipif(
    len(find_terraform(SYSTEM_PATH)) == 1, reason="a terraform on the system's path hides ours"
)
async def test_the_bundled_terraform_ends_in_order_when_it_is_cancelled(cloud):
    cloud.use_python('sleep 5; exec "$python" "$@"')
    run = await cloud.workspace.start("apply", {"PATH": SYSTEM_PATH})
    await wait_until(run, "terraform_data.instance: (local-exec): Executing")
    assert run.cancel()
    assert (await run.wait()).exit_status not in (0, None)
    assert "interrupt" in (run.directory / "journal.ndjson").read_text().lower()
    cloud.use_python('exec "$python" "$@"')
    await cloud.run("destroy")
    assert not run.cancel()


def test_a_journal_passes_over_what_is_no_event(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    assert journal.read_events() == []
    event = json.dumps({"type": "apply_start", "@message": "begun"}).encode()
    path.write_bytes(b"panic: \xff\n[1]\n\n" + event + b"\n" + event)
    assert [each.message for each in journal.read_events()] == ["begun"]
    with path.open("ab") as file:
        file.write(b"\n")
    assert [each.message for each in journal.read_events()] == ["begun"]  # once it is whole
