"""A supervisor that dies after any of its writes leaves what its successor brings to the end."""

import asyncio
from dataclasses import dataclass, field

import pytest

from nightingale_hub.database import Database
from nightingale_hub.service import Context
from nightingale_hub.services.supervisor.supervisor import Supervisor
from tests.fleet import TerraformThatFailsToApply, running_fleet, supervising
from tests.serving import make_context

# More than any life takes; a number past the last write is a supervisor that lives.
WRITES_OF_A_LAUNCH = 18
WRITES_OF_A_STOP = 14

survives = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@dataclass
class ContextThatEnds(Context):
    """Its holder is killed, as far as anyone can tell, right after write number *writes*."""

    writes: int = 0
    is_dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, work):
        if self.writes == 0:
            self.is_dead.set()
            await asyncio.Event().wait()
        self.writes -= 1
        done = await super().write(work)
        if self.writes == 0:
            self.is_dead.set()
            await asyncio.Event().wait()
        return done


@pytest.fixture
async def fleet(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'test.sqlite'}")
    database.upgrade()
    async with running_fleet(database, tmp_path / "state") as fleet:
        yield fleet
    database.dispose()


async def supervise_until_dead(fleet, writes, is_over):
    """Run a supervisor that dies after *writes* writes, or until *is_over*."""
    context = make_context("supervisor", fleet.database, fleet.settings)
    context = ContextThatEnds(**vars(context), writes=writes)
    supervisor = Supervisor(context)

    async def run():
        while not is_over():
            await supervisor.step()
            await asyncio.sleep(0.02)

    tasks = {asyncio.create_task(run()), asyncio.create_task(context.is_dead.wait())}
    done, _ = await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await supervisor.break_off()
    assert done and all(isinstance(each, bool | None | asyncio.CancelledError) for each in results)
    return context.is_dead.is_set()


@survives
@pytest.mark.parametrize("writes", range(1, WRITES_OF_A_LAUNCH + 1))
async def test_a_launch_goes_on_after_any_write(fleet, writes):
    key = fleet.ask()
    # Nobody serves the agent meanwhile, so it is the successor that it calls home to.
    await supervise_until_dead(fleet, writes, lambda: fleet.get(key).actual == "booting")
    async with supervising(fleet):
        row = await fleet.wait_state(key, "running")
    assert row.ready_us > row.allocated_us >= row.created_us
    edges = [line for line in fleet.list_lines(key) if "_to_" in line]
    assert edges == ["requested_to_launching", "launching_to_booting", "booting_to_running"]
    agents = [each for each in fleet.list_processes(key) if "instance.agent" in command(each)]
    assert len(agents) == 1
    assert all(run.ended_us is not None for run in fleet.list_runs(key))
    assert [run.exit_status for run in fleet.list_runs(key)][-1] == 0


@survives
@pytest.mark.parametrize("writes", range(1, WRITES_OF_A_STOP + 1))
async def test_a_stop_goes_on_after_any_write(fleet, writes):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait_state(key, "running")
    fleet.stop(key)
    await supervise_until_dead(fleet, writes, lambda: fleet.get(key).actual == "stopped")
    async with supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
        state = fleet.settings.state_path
        await fleet.wait(lambda: not (state / "terraform" / key).exists())
    assert fleet.list_processes(key) == []
    assert row.stop_accepted_us < row.gone_us
    destroys = [run for run in fleet.list_runs(key) if run.action == "destroy"]
    assert len(destroys) == 1 and destroys[0].exit_status == 0


@survives
@pytest.mark.parametrize("writes", range(1, 16, 2))
async def test_a_failed_launch_is_removed_after_any_write(fleet, writes, tmp_path, monkeypatch):
    double = TerraformThatFailsToApply(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{double.folder}:/usr/local/bin:/usr/bin:/bin")
    key = fleet.ask()
    await supervise_until_dead(fleet, writes, lambda: fleet.get(key).actual == "stopped")
    async with supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert row.reason == "The launch failed: no capacity left"
    assert fleet.list_processes(key) == []
    assert double.list_actions().count("apply") <= 3


async def test_the_writes_that_are_tried_are_all_that_there_are(fleet):
    key = fleet.ask()
    done = await supervise_until_dead(
        fleet, WRITES_OF_A_LAUNCH + 1, lambda: fleet.get(key).actual == "booting"
    )
    assert not done


def command(process):
    with open(f"/proc/{process.pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode()
