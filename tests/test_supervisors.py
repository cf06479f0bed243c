"""Several supervisor processes share a fleet on PostgreSQL, and take over from one that died."""

import os
import secrets
import signal
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest
from traitlets.config import Config

from nightingale_hub.config import configure
from nightingale_hub.database import Database
from nightingale_hub.errors import ConfigError
from nightingale_hub.settings import SLOT_NAME
from tests.fleet import TerraformThatIsSlow, running_fleet

OWNERS = ("alice", "bob", "carol", "dave")


@pytest.fixture
async def fleet(postgres, tmp_path):
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    database = Database(postgres.format(name=name))
    database.upgrade()
    values = {"db_url": database.url, "boot_timeout_s": 60}
    async with running_fleet(database, tmp_path / "state", **values) as fleet:
        yield fleet
    database.dispose()


@contextmanager
def supervisor(fleet, slot, log):
    """Run a supervisor as the hub does; only the one without a slot answers on the network."""
    environment = {**os.environ, **fleet.settings.to_environment()}
    if slot:
        environment[SLOT_NAME] = slot
    else:
        environment["JUPYTERHUB_SERVICE_URL"] = f"http://127.0.0.1:{fleet.port}"
    command = [sys.executable, "-m", "nightingale_hub.services.supervisor"]
    with log.open("ab") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)


def holders(fleet, keys):
    return {str(fleet.get(key).lease_holder).partition("#")[0] for key in keys}


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_one_held_that_died_or_hangs_the_other_goes_on_with(
    fleet, tmp_path, monkeypatch, fault
):
    double = TerraformThatIsSlow(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{double.folder}:/usr/local/bin:/usr/bin:/bin")
    log = tmp_path / "supervisors.log"
    with supervisor(fleet, "2", log) as second:
        key = fleet.ask()
        await fleet.wait(lambda: double.list_actions() == ["apply"])
        assert holders(fleet, [key]) == {"supervisor:2"}
        second.send_signal(fault)
        with supervisor(fleet, "", log):
            row = await fleet.wait_state(key, "running", 60)
            assert holders(fleet, [key]) == {"supervisor"}
            if fault == signal.SIGSTOP:  # it wakes up, and finds that it has nothing any more
                second.send_signal(signal.SIGCONT)
            fleet.stop(key)
            await fleet.wait_state(key, "stopped", 60)
    assert double.list_actions() == ["apply", "destroy"]
    assert fleet.get(key).boot_id == row.boot_id
    edges = [line for line in fleet.list_lines(key) if "_to_" in line]
    assert len(edges) == len(set(edges)) == 5


async def test_two_share_the_fleet_and_each_instance_is_made_once(fleet, tmp_path, monkeypatch):
    double = TerraformThatIsSlow(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{double.folder}:/usr/local/bin:/usr/bin:/bin")
    log = tmp_path / "supervisors.log"
    with supervisor(fleet, "", log), supervisor(fleet, "2", log):
        await fleet.wait(lambda: log.read_text().count("epoch 1") == 2)
        keys = []
        seen = set()
        for owner in OWNERS:
            keys.append(fleet.ask(owner=owner))
        for key in keys:
            await fleet.wait_state(key, "running", 90)
            seen |= holders(fleet, keys)
        for key in keys:
            fleet.stop(key)
        for key in keys:
            await fleet.wait_state(key, "stopped", 90)
    assert seen <= {"supervisor", "supervisor:2"}
    assert sorted(double.list_actions()) == ["apply"] * 4 + ["destroy"] * 4
    for key in keys:
        edges = [line for line in fleet.list_lines(key) if "_to_" in line]
        assert len(edges) == len(set(edges)) == 5
    assert "taken over" not in log.read_text()


def make_config(tmp_path, db_url):
    config = Config()
    config.NightingaleHub.state_dir = str(tmp_path / "state")
    config.NightingaleHub.supervisors = 3
    config.NightingaleHub.db_url = db_url
    return config


def test_the_hub_starts_as_many_as_are_set_and_one_of_them_answers(tmp_path):
    config = make_config(tmp_path, "postgresql://u:p@localhost/hub")
    config.JupyterHub.services = []
    configure(config)
    ours = [each for each in config.JupyterHub.services if each["name"].startswith("supervisor")]
    assert [each["name"] for each in ours] == ["supervisor", "supervisor-2", "supervisor-3"]
    assert ["url" in each for each in ours] == [True, False, False]
    assert [each["environment"].get(SLOT_NAME) for each in ours] == [None, "2", "3"]


def test_several_on_sqlite_are_refused(tmp_path):
    config = make_config(tmp_path, f"sqlite:///{tmp_path / 'hub.sqlite'}")
    with pytest.raises(ConfigError, match="more than one needs"):
        configure(config)
