"""An instance's data: mounted, recorded, sent, and refused where it cannot be."""

import json
import os
import signal
import time
from pathlib import Path

from nightingale_hub.processes import (
    send_signal,
    wait_gone,
)
from tests.local_instance import (
    wait_for,
)


def test_data_is_read_through_the_mount_and_nowhere_else(isolated_instance):
    isolated_instance.add_dataset()
    environment = isolated_instance.up_and_serving()["environment"]
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n")
    assert (
        isolated_instance.shell(f"cat {environment['NIGHTINGALE_DATASETS']}/scans/scan.txt")[0] == 0
    )
    assert isolated_instance.shell(f"cat {isolated_instance.data}/scan.txt")[0] != 0
    assert isolated_instance.shell("touch ~/datasets/scans/x")[0] != 0
    assert isolated_instance.status == {
        "instance_id": isolated_instance.directory.name,
        "boot_id": isolated_instance.hub.bootstraps[0]["boot_id"],
        "isolation": [
            "network: nothing here stops data from leaving through this machine's network"
        ],
        "datasets": environment["NIGHTINGALE_DATASETS"],
        "mounted": ["scans"],
        "data_refused": None,
        "audit": {"state": "served", "says": "opens and reads are served", "why": ""},
    }
    # Only the instance itself sees its mount.
    assert f" {environment['NIGHTINGALE_DATASETS']} " in isolated_instance.shell("mount")[1]
    mounts = Path("/proc/self/mountinfo").read_text()
    assert f" {environment['NIGHTINGALE_DATASETS']} " not in mounts


def test_a_dataset_s_policy_and_fallback_reach_its_mount(isolated_instance):
    isolated_instance.add_dataset()
    [scans] = isolated_instance.hub.launch["datasets"]
    isolated_instance.hub.launch["datasets"] = [
        {**scans, "policy": "opens", "fallback": None},
        {**scans, "name": "more", "policy": "opens", "fallback": "strict"},
    ]
    isolated_instance.up_and_serving()
    served = json.loads((isolated_instance.directory / "mount.json").read_text())["datasets"]
    assert [(each["policy"], each.get("fallback")) for each in served] == [
        ("opens", None),
        ("opens", "strict"),
    ]
    assert isolated_instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n")


def test_down_sends_the_records_before_it_ends(isolated_instance):
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    isolated_instance.shell("for i in $(seq 50); do cat ~/datasets/scans/scan.txt; done")
    isolated_instance.down()
    acts = [record["act"] for record in isolated_instance.hub.records]
    assert acts.count("open") == 50
    assert acts.count("read") >= 50  # `cat` reads once more, to see the end
    assert not (isolated_instance.directory / "ship.json").exists()


def test_down_ends_all_readers_before_it_takes_the_mount_away(isolated_instance):
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    reads = "read line < ~/datasets/scans/scan.txt || echo >> ~/lost; echo >> ~/began"
    isolated_instance.shell(
        f"setsid -f sh -c \"trap '' TERM; while :; do {reads}; done\" >/dev/null 2>&1"
    )
    wait_for((isolated_instance.home / "began").exists)
    isolated_instance.down()
    assert not (isolated_instance.home / "lost").exists()


def test_down_sends_the_records_that_a_killed_agent_left(isolated_instance):
    isolated_instance.hub.takes_records = False
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    isolated_instance.shell("cat ~/datasets/scans/scan.txt")
    send_signal(isolated_instance.agent, signal.SIGKILL)
    assert wait_gone(isolated_instance.agent, 5)
    assert isolated_instance.hub.records == []
    isolated_instance.hub.takes_records = True
    isolated_instance.down()
    assert {record["act"] for record in isolated_instance.hub.records} >= {"open", "read"}
    assert not (isolated_instance.directory / "ship.json").exists()


def test_down_sends_the_records_that_a_killed_shipper_left(isolated_instance):
    isolated_instance.hub.takes_records = False
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    isolated_instance.shell("cat ~/datasets/scans/scan.txt")
    shipper = isolated_instance.find_part("nightingale_hub.fuse_audit.ship")
    assert shipper is not None
    # Held, so that the agent hears of the stop before it hears of the death.
    send_signal(isolated_instance.agent, signal.SIGSTOP)
    send_signal(shipper, signal.SIGKILL)
    isolated_instance.hub.takes_records = True
    with isolated_instance.start("down") as down:
        time.sleep(1)
        send_signal(isolated_instance.agent, signal.SIGCONT)
        output, _ = down.communicate(timeout=60)
    assert down.returncode == 0, output
    assert {record["act"] for record in isolated_instance.hub.records} >= {"open", "read"}
    assert not (isolated_instance.directory / "ship.json").exists()


def test_a_killed_audit_mount_is_back_and_told(isolated_instance):
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    killed = isolated_instance.find_part("nightingale_hub.fuse_audit")
    assert killed is not None
    send_signal(killed, signal.SIGKILL)
    wait_for(lambda: isolated_instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n"))
    assert isolated_instance.find_part("nightingale_hub.fuse_audit") != killed
    isolated_instance.wait_for_fault("audit_mount_exited -9")


def test_a_killed_shipper_is_started_again(isolated_instance):
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    killed = wait_for(lambda: isolated_instance.find_part("nightingale_hub.fuse_audit.ship"))
    send_signal(killed, signal.SIGKILL)
    isolated_instance.wait_for_fault("shipper_exited")
    wait_for(
        lambda: (
            isolated_instance.find_part("nightingale_hub.fuse_audit.ship") not in (None, killed)
        ),
        lambda: isolated_instance.log,
    )


def test_a_refused_mount_is_told_and_the_server_runs_without_data(any_instance):
    any_instance.add_dataset(any_instance.data / "missing")
    environment = any_instance.up_and_serving()["environment"]
    assert environment["NIGHTINGALE_DATASETS"] == ""
    status = any_instance.status
    assert status["datasets"] is None
    assert str(any_instance.data / "missing") in status["data_refused"]


def test_a_link_in_the_home_never_moves_the_mount(isolated_instance):
    isolated_instance.home.mkdir(mode=0o700)
    (isolated_instance.home / "datasets").symlink_to("/etc")
    isolated_instance.add_dataset()
    environment = isolated_instance.up_and_serving()["environment"]
    assert os.readlink(isolated_instance.home / "datasets") == "/etc"
    assert isolated_instance.shell("cat $NIGHTINGALE_DATASETS/scans/scan.txt") == (0, "a scan\n")
    assert "/etc " not in isolated_instance.shell("grep fuse /proc/mounts")[1]
    assert environment["NIGHTINGALE_DATASETS"] in isolated_instance.log
