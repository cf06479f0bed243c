"""Four ways in which other spawners lose or kill an instance on JupyterHub, and none of them here.

A fifth is what two hubs leave when each is started over what the other left.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nightingale_hub.processes import send_signal
from nightingale_hub.settings import SERVICES
from tests.client import SMALL, wait_for
from tests.fleet import TerraformThatFailsToDestroy, TerraformThatIsSlow
from tests.hub import list_processes, read_command, running_hub
from tests.test_cli import PROGRAM

UNREACHABLE_S = 8.0


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    """Terraform that is slow to apply, and before it one that fails to destroy while broken."""
    slow = TerraformThatIsSlow(tmp_path_factory.mktemp("slow") / "bin")
    fails = TerraformThatFailsToDestroy(tmp_path_factory.mktemp("fails") / "bin")
    fails.repair()
    program = fails.folder / "terraform"
    lines = program.read_text().splitlines()
    lines[-1] = f'exec {slow.folder / "terraform"} "$@"'
    program.write_text("\n".join(lines) + "\n")
    return fails


@pytest.fixture(scope="module")
def hub(doubles):
    path = f"{doubles.folder}:{os.environ['PATH']}"
    config = """
c.NightingaleHub.stop_retry_s = 0.5
c.TerraformSpawner.stop_timeout_s = 1.5
# So that the hub's own check of a server that hangs would be over within this test.
import aiohttp
c.JupyterHubHTTPClient.session_options = {"timeout": aiohttp.ClientTimeout(total=2)}
"""
    users = ("alice", "bob", "carol", "dave")
    with running_hub(users=users, config=config, environment={"PATH": path}) as hub:
        yield hub
        (doubles.folder / "broken").unlink(missing_ok=True)


def test_a_destroy_that_fails_is_no_stop(hub, doubles):
    alice = hub.client("alice")
    alice.start(SMALL)
    alice.wait_ready()
    key = hub.find_instance("alice").id
    (doubles.folder / "broken").touch()
    alice.stop()
    alice.wait_stopped()
    row = hub.find_instance("alice")
    assert (row.id, row.actual, row.gone_us) == (key, "stopping", None)
    assert list_processes(key)
    wait_for(
        lambda: [each for each in hub.list_progress(key) if "Stop failed" in each.message],
        "its owner is told",
    )
    doubles.repair()
    hub.wait_state("alice", "stopped")
    assert list_processes(key) == []


def test_a_hub_that_is_killed_in_a_start_loses_no_instance(hub):
    bob = hub.client("bob")
    bob.submit_form(SMALL)
    row = hub.wait_state("bob", "launching")
    hub.kill()
    hub.restart()
    bob.wait_ready()
    assert [each.id for each in hub.list_instances("bob")] == [row.id]
    bob.stop()
    hub.wait_state("bob", "stopped")


def test_a_server_that_does_not_answer_a_hub_that_was_restarted_is_not_destroyed(hub):
    carol = hub.client("carol")
    carol.start(SMALL)
    carol.wait_ready()
    row = hub.find_instance("carol")
    servers = [
        each for each in list_processes(row.id) if "jupyterhub-singleuser" in read_command(each)
    ]
    for each in servers:
        send_signal(each, signal.SIGSTOP)
    hub.kill()
    hub.restart()
    time.sleep(UNREACHABLE_S)  # the hub's check has had its answer, or its lack of one
    now = hub.find_instance("carol")
    assert (now.id, now.actual, now.wanted) == (row.id, "running", "running")
    for each in servers:
        send_signal(each, signal.SIGCONT)
    carol.wait_ready()
    assert carol.ask_server("api/status").status_code == 200
    assert hub.find_instance("carol").boot_id == row.boot_id
    carol.stop()
    hub.wait_state("carol", "stopped")


def test_a_server_resizes_itself_with_its_own_token(hub):
    dave = hub.client("dave")
    dave.start(SMALL)
    dave.wait_ready()
    before = hub.find_instance("dave")
    done = subprocess.run(
        [PROGRAM, "resize", "--cpu", "M", "-y"],
        env=read_environment(before.id),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Resized to cpu M, gpu none, disk S.\n"), done
    row = hub.find_instance("dave")
    assert (row.id, row.boot_id, row.cpu) == (before.id, before.boot_id, "M")
    assert dave.ask_server("api/status").status_code == 200
    extended = subprocess.run(
        [PROGRAM, "extend", "2h"],
        env=read_environment(before.id),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert extended.stdout.startswith("It is not stopped as idle before 20"), extended
    dave.stop()
    hub.wait_state("dave", "stopped")


def test_hubs_over_each_others_leftovers_leave_one_set_of_services(hub):
    for _ in range(2):
        hub.kill()
        hub.start()
    names = {f"nightingale_hub.services.{name}" for name in SERVICES}

    def one_of_each():
        found = [name for name in names for _ in list_services(hub, name)]
        return sorted(found) == sorted(names)

    wait_for(one_of_each, "one process of each service is left")
    for name in names:
        [pid] = list_services(hub, name)
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent == hub.pid


def list_services(hub, module):
    """Return every process of *module* that serves this hub's state, whoever started it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if module.encode() in command and str(hub.state).encode() in environment:
            found.append(int(folder.name))
    return found


def read_environment(instance_id):
    """Return the environment of an instance's server, as a terminal in it has it."""
    for each in list_processes(instance_id):
        if "jupyterhub-singleuser" in read_command(each):
            text = Path(f"/proc/{each.pid}/environ").read_text()
            return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    raise AssertionError(f"no server of {instance_id} runs")
