"""The records of an instance that died reach the hub: at the next start, or by a command."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nightingale_hub.processes import send_signal, wait_gone
from tests.audit_service import Service, Shipping
from tests.local_instance import LocalInstance, wait_for

RECOVER = [sys.executable, "-P", "-m", "nightingale_hub.instance.recover"]


def recover(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [*RECOVER, *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def dead(isolated_instance):
    """An instance that was killed, with records that nobody has taken."""
    isolated_instance.hub.takes_records = False
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    isolated_instance.shell("cat ~/datasets/scans/scan.txt")
    send_signal(isolated_instance.agent, signal.SIGKILL)
    assert wait_gone(isolated_instance.agent, 5)
    assert isolated_instance.hub.records == []
    return isolated_instance


def list_acts(instance: LocalInstance) -> list[str]:
    return [record["act"] for record in instance.hub.records]


def test_an_admin_recovers_a_dead_instance_and_a_torn_record_is_none(dead):
    newest = sorted((dead.directory / "spool").glob("0*.ndjson"))[-1]
    with newest.open("ab") as file:
        file.write(b"000000ff 00000000 {torn")
    dead.hub.takes_records = True
    said = recover("--all", dead.directory.parent)
    assert (said.returncode, said.stderr) == (0, "")
    assert "all records are stored by the hub" in said.stdout
    assert {"open", "read"} <= set(list_acts(dead))
    sequence = [record["seq"] for record in dead.hub.records]
    assert sequence == list(range(1, len(sequence) + 1))
    assert not (dead.directory / "ship.json").exists()
    again = recover(dead.directory)
    assert (again.returncode, again.stdout) == (0, f"{dead.directory}: nothing is left to send\n")
    assert recover("--all", dead.directory.parent).stdout == "nothing is left to send\n"
    assert len(dead.hub.records) == len(sequence)


def test_what_the_hub_does_not_take_stays_and_says_so(dead):
    said = recover(dead.directory)
    assert said.returncode == 6
    assert "not all is sent: not shipped: line 1 and on; keep the spool" in said.stderr
    assert (dead.directory / "ship.json").exists()
    assert list((dead.directory / "spool").glob("0*.ndjson"))
    dead.hub.takes_records = True


def test_a_kept_disk_is_recovered_at_another_place(dead):
    dead.hub.takes_records = True
    with tempfile.TemporaryDirectory() as disk:
        kept = Path(disk) / dead.directory.name
        shutil.copytree(dead.directory, kept)
        shutil.rmtree(dead.directory / "spool")
        assert recover("--all", disk).returncode == 0
    assert {"open", "read"} <= set(list_acts(dead))
    (dead.directory / "ship.json").unlink()


def test_an_instance_that_runs_is_left_alone(isolated_instance):
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    said = recover(isolated_instance.directory)
    assert (said.returncode, said.stderr) == (0, "")
    assert "runs, and sends by itself" in said.stdout


def test_the_next_start_recovers_what_was_left(dead):
    dead.hub.takes_records = True
    state = Path(tempfile.mkdtemp(prefix="nightingale-test-"))
    try:
        following = LocalInstance(state)
        following.directory.rename(dead.directory.parent / following.directory.name)
        following.directory = dead.directory.parent / following.directory.name
        following.hub.launch["system_user"] = dead.hub.launch["system_user"]
        following.up_and_serving()
        wait_for(lambda: not (dead.directory / "ship.json").exists(), timeout_s=30)
        assert {"open", "read"} <= set(list_acts(dead))
        following.close()
    finally:
        shutil.rmtree(state, ignore_errors=True)


def test_two_shippers_never_ship_one_spool(tmp_path):
    service = Service()
    try:
        with Shipping(tmp_path, service.server_port) as first:
            wait_for(lambda: service.keys)
            with Shipping(tmp_path, service.server_port) as second:
                assert second.process.wait(20) == 1
                assert "shipped by another process already" in second.errors.read_text()
            assert first.process.poll() is None
    finally:
        service.shutdown()
        service.server_close()


def test_a_directory_without_sense_is_named(tmp_path):
    (tmp_path / "ship.json").write_text("[]")
    said = recover(tmp_path)
    assert said.returncode != 0
    assert "ship.json holds no JSON object" in said.stderr
    missing = recover(tmp_path / "missing")
    assert missing.returncode != 0 and "missing" in missing.stderr
