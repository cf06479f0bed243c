"""Many runs: a queue that tells its places, a guard before homes, and what is tried instead."""

import asyncio
import json

import pytest

from nightingale_hub.errors import Conflict, TerraformFailed
from nightingale_hub.services.supervisor.queue import Queue
from nightingale_hub.terraform.guard import find_refusal
from nightingale_hub.terraform.template import Template
from nightingale_hub.terraform.workspace import Workspace


async def test_so_many_are_at_work_and_each_other_is_told_its_place():
    queue, at_work, most, told = Queue(), 0, 0, []
    gates = [asyncio.Event() for _ in range(4)]

    async def look():
        pass

    async def take(number):
        nonlocal at_work, most

        async def tell(line):
            told.append((number, line))

        async with queue.turn(2, tell, look):
            at_work += 1
            most = max(most, at_work)
            await gates[number].wait()
            at_work -= 1

    tasks = [asyncio.create_task(take(number)) for number in range(4)]
    while len(told) < 2:
        await asyncio.sleep(0.02)
    assert told == [
        (2, "Waiting for Terraform: place 1 in the queue"),
        (3, "Waiting for Terraform: place 2 in the queue"),
    ]
    gates[0].set()
    while len(told) < 3:
        await asyncio.sleep(0.02)
    assert told[2] == (3, "Waiting for Terraform: place 1 in the queue")
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks)
    assert most == 2


async def test_one_that_gives_up_leaves_the_queue():
    queue = Queue()

    async def ignore(_line):
        pass

    async def go_on():
        pass

    async def give_up():
        raise Conflict("it is to be stopped")

    async with queue.turn(1, ignore, go_on):
        with pytest.raises(Conflict):
            async with queue.turn(1, ignore, give_up):
                pass
    async with asyncio.timeout(5), queue.turn(1, ignore, go_on):
        pass


def change(*actions, name="home", kind="aws_ebs_volume"):
    return {"address": f"{kind}.{name}", "type": kind, "name": name, "change": {"actions": actions}}


@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        (change("create"), False),
        (change("update"), False),
        (change("no-op"), False),
        (change("delete"), True),
        (change("delete", "create"), True),
        (change("create", "delete"), True),
        (change("forget"), True),
        (change("delete", kind="azurerm_managed_disk"), True),
        (change("delete", name="instance", kind="aws_instance"), False),
        (change("delete", kind="aws_volume_attachment"), False),
        ({"name": "home"}, True),
        ("nonsense", True),
    ],
)
def test_a_plan_that_would_lose_a_home_is_refused(change, is_refused):
    assert (find_refusal({"resource_changes": [change]}) is not None) is is_refused


def test_a_plan_that_cannot_be_read_is_refused():
    assert find_refusal({"resource_changes": 1}) is not None
    assert find_refusal({}) is None


HOME = """
variable "zone" {
  type = string
}

resource "terraform_data" "home" {
  triggers_replace = [var.zone]
}

resource "terraform_data" "other" {
  triggers_replace = [var.zone]
}
"""


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """A workspace of a module with a home, whose applies are guarded as a cloud's are."""
    module = tmp_path / "modules" / "home"
    module.mkdir(parents=True)
    (module / "main.tf").write_text(HOME)
    workspace = Workspace(tmp_path / "workspace", module)
    start = Workspace._create_run

    def create_guarded(self, action):
        run = start(self, action)
        self._write_preparations(action, run)
        return run

    monkeypatch.setattr(Workspace, "_create_run", create_guarded)
    return workspace


async def test_a_home_that_values_would_replace_stays_and_nothing_else_is_changed(guarded):
    guarded.ensure({"zone": "a"})
    assert (await (await guarded.start("apply")).wait()).exit_status == 0
    before = json.loads((guarded.directory / "terraform.tfstate").read_text())["resources"]
    guarded.ensure({"zone": "b"})
    result = await (await guarded.start("apply")).wait()
    with pytest.raises(TerraformFailed, match=r"would delete or replace terraform_data\.home"):
        result.raise_for_failure()
    after = json.loads((guarded.directory / "terraform.tfstate").read_text())["resources"]
    assert after == before
    run = guarded.find_run()
    assert run is not None
    assert not list(run.directory.glob("plan*"))  # it holds values in clear


BACKEND = 'terraform {\n  backend "http" {}\n}\n'


async def test_a_template_is_initialized_once_and_again_only_when_it_changes(tmp_path):
    module = tmp_path / "modules" / "instance"
    module.mkdir(parents=True)
    (module / "main.tf").write_text(BACKEND)
    template = Template(tmp_path / "templates", module)
    await template.ensure()
    made = (template.directory / "terraform.rc").stat().st_mtime_ns
    await Template(tmp_path / "templates", module).ensure()
    assert (template.directory / "terraform.rc").stat().st_mtime_ns == made
    (module / "main.tf").write_text(BACKEND + "# changed\n")
    changed = Template(tmp_path / "templates", module)
    assert changed.directory != template.directory
    await changed.ensure()
    assert len(list((tmp_path / "templates").iterdir())) == 2


async def test_a_template_that_cannot_be_initialized_says_why_and_leaves_nothing(tmp_path):
    module = tmp_path / "modules" / "instance"
    module.mkdir(parents=True)
    (module / "main.tf").write_text("nonsense {")
    with pytest.raises(TerraformFailed, match="terraform init of"):
        await Template(tmp_path / "templates", module).ensure()
    assert list((tmp_path / "templates").iterdir()) == []
