"""An instance gets another size while it runs, or keeps the one it has; its home is untouched."""

import json
import os
import secrets
from functools import partial

import pytest

from nightingale_hub import instances, resizing
from nightingale_hub.clock import now_us
from nightingale_hub.instances import owner_hash
from nightingale_hub.offers import Size
from nightingale_hub.quotas import Quota
from nightingale_hub.requests import Kind, Request, ask
from nightingale_hub.terraform.workspace import Workspace
from tests.fleet import (
    SERVER,
    TerraformThatFailsToResize,
    TerraformThatIsSlow,
    running_fleet,
    supervising,
)
from tests.hub import read_command
from tests.prices import add_prices
from tests.record import change, list_shapes

SMALL, BIG = Size("S"), Size("M")


@pytest.fixture
async def fleet(database, tmp_path):
    with database.write() as conn:
        add_prices(conn)
    async with running_fleet(database, tmp_path / "state") as fleet:
        yield fleet


@pytest.fixture
def use(monkeypatch, tmp_path):
    def use(kind):
        double = kind(tmp_path / "bin")
        monkeypatch.setenv("PATH", f"{double.folder}:/usr/local/bin:/usr/bin:/bin")
        return double

    return use


def list_sizes(fleet, key):
    """Return the (cpu, cause) of each shape, in order."""
    with fleet.database.read() as conn:
        return [(each.cpu, each.cause) for each in list_shapes(conn, key)]


def count_cpus(fleet, key):
    """Return on how many CPUs the instance's server may run."""
    servers = [
        each.pid for each in fleet.list_processes(key) if "http.server" in read_command(each)
    ]
    return {len(os.sched_getaffinity(pid)) for pid in servers}


def edges(fleet, key):
    return [line for line in fleet.list_lines(key) if line in instances.EDGES]


async def test_it_gets_the_size_while_its_server_and_its_home_stay(fleet):
    key = fleet.ask()
    async with supervising(fleet):
        before = await fleet.wait_state(key, "running")
        mark = fleet.settings.state_path / "homes" / owner_hash("alice") / "mark"
        mark.write_text(secret := secrets.token_hex(8))
        await fleet.wait(lambda: count_cpus(fleet, key) == {1})
        fleet.resize(key, BIG)
        done = await fleet.wait_resized(key, "done")
        row = fleet.get(key)
        await fleet.wait(lambda: count_cpus(fleet, key) == {min(2, os.cpu_count() or 1)})
    assert (row.cpu, row.instance_type) == ("M", "local-M-none-S")
    assert row.nano_usd_per_hour == done.nano_usd_per_hour != before.nano_usd_per_hour
    assert (row.boot_id, row.port, row.ready_us) == (before.boot_id, before.port, before.ready_us)
    assert mark.read_text() == secret
    assert list_sizes(fleet, key) == [("S", "launch"), ("M", "resize")]
    with fleet.database.read() as conn:
        last = list_shapes(conn, key)[-1]
    assert done.asked_us < last.effective_us <= done.ended_us <= now_us()
    assert edges(fleet, key)[-2:] == ["running_to_resizing", "resizing_to_running"]


async def test_the_old_size_is_back_when_the_new_one_cannot_be_had(fleet, use):
    use(TerraformThatFailsToResize)
    key = fleet.ask()
    async with supervising(fleet):
        before = await fleet.wait_state(key, "running")
        fleet.resize(key, BIG)
        taken_back = await fleet.wait_resized(key, "taken back")
        row = await fleet.wait_state(key, "running")
        await fleet.wait(lambda: count_cpus(fleet, key) == {1})
    assert taken_back.outcome == "It keeps cpu S, gpu none, disk S: no capacity left"
    assert (row.cpu, row.boot_id) == ("S", before.boot_id)
    assert list_sizes(fleet, key) == [("S", "launch")]
    values = fleet.settings.state_path / "terraform" / key / "terraform.tfvars.json"
    assert json.loads(values.read_text())["size"]["vcpus"] == 1
    runs = [(run.action, run.exit_status) for run in fleet.list_runs(key)]
    assert runs == [("apply", 0), ("apply", 1), ("apply", 1), ("apply", 0)]


async def test_a_server_that_is_lost_with_the_new_size_gets_the_old_one_back_or_ends(fleet):
    fleet.settings.boot_timeout_s = 1
    key = fleet.ask(program=SERVER)
    async with supervising(fleet):
        await fleet.wait(lambda: fleet.get(key).actual == "running", 60)
        with fleet.database.write() as conn:
            change(conn, key, api_nonce="of another server")
        fleet.resize(key, BIG)
        await fleet.wait(lambda: list_sizes(fleet, key)[-1:] == [("M", "resize")])
        with fleet.database.write() as conn:
            change(conn, key, attempts=4)
        row = await fleet.wait_state(key, "stopped", 60)
    assert row.cause == "crashed"
    assert "does not answer" in row.reason


async def test_a_stop_during_a_resize_wins(fleet, use):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
        double = use(partial(TerraformThatIsSlow, pause_s=8))  # the stop comes first
        fleet.resize(key, BIG)
        await fleet.wait(lambda: "apply" in double.list_actions())
        fleet.stop(key)
        await fleet.wait_state(key, "stopped")
        dropped = await fleet.wait_resized(key, "dropped")
    assert dropped.outcome == "the instance was to stop"
    assert list_sizes(fleet, key) == [("S", "launch")]
    assert fleet.list_processes(key) == []


async def test_a_stop_before_the_resize_begins_drops_it(fleet):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
    fleet.resize(key, BIG)
    with fleet.database.write() as conn:
        plan = resizing.plan_resize(conn, fleet.get(key), BIG, Quota(), now_us())
        resizing.ask_resize(conn, fleet.get(key), plan, "alice", now_us())
    fleet.stop(key)
    async with supervising(fleet):
        await fleet.wait_state(key, "stopped")
        await fleet.wait_resized(key, "dropped")


async def test_a_supervisor_that_dies_in_a_resize_is_followed_by_one_that_ends_it(fleet, use):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
        double = use(TerraformThatIsSlow)
        fleet.resize(key, BIG)
        await fleet.wait(lambda: "apply" in double.list_actions())
    assert fleet.get(key).actual == "resizing"
    async with supervising(fleet):
        await fleet.wait_resized(key, "done")
    assert double.list_actions() == ["apply"]
    assert list_sizes(fleet, key) == [("S", "launch"), ("M", "resize")]


@pytest.mark.parametrize("dies_after", ["ensure", "start"])
async def test_a_supervisor_that_dies_at_a_line_of_a_resize_loses_nothing(
    fleet, monkeypatch, dies_after
):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
        real = getattr(Workspace, dies_after)

        def die(self, *arguments):
            real(self, *arguments)
            raise RuntimeError("killed here")

        async def die_later(self, *arguments):
            await real(self, *arguments)
            raise RuntimeError("killed here")

        monkeypatch.setattr(Workspace, dies_after, die if dies_after == "ensure" else die_later)
        fleet.resize(key, BIG)
        await fleet.wait(lambda: fleet.get(key).attempts == 1)
    monkeypatch.undo()
    with fleet.database.write() as conn:
        change(conn, key, next_try_us=0)
    async with supervising(fleet):
        await fleet.wait_resized(key, "done")
    assert list_sizes(fleet, key) == [("S", "launch"), ("M", "resize")]


async def test_a_home_is_kept_over_a_stop_and_a_start_and_removed_when_that_is_asked(fleet):
    first = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(first, "running")
        home = fleet.settings.state_path / "homes" / owner_hash("alice")
        (home / "mark").write_text("kept")
        fleet.stop(first)
        await fleet.wait_state(first, "stopped")
        second = fleet.ask()
        await fleet.wait_state(second, "running")
        assert (home / "mark").read_text() == "kept"
        fleet.stop(second)
        await fleet.wait_state(second, "stopped")
        with fleet.database.write() as conn:
            ask(conn, Request(second, Kind.REMOVE, "admin", "she left"), now_us())
        await fleet.wait_state(second, "gone")
    assert not home.exists()
    assert edges(fleet, second)[-2:] == ["stopped_to_removing", "removing_to_gone"]
