"""Runs whose state is in the database: without a broker, without a backend, cancelled."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from nightingale_hub.database import Database
from nightingale_hub.processes import send_signal
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.terraform import means
from nightingale_hub.terraform.keeping import end_keeper, ensure_keeper, find_keeper
from nightingale_hub.terraform.means import Means
from nightingale_hub.terraform.states import find_state
from nightingale_hub.terraform.template import ProviderBinary, Template
from nightingale_hub.terraform.workspace import ERRORED, Workspace
from tests.aws import IMAGE, REGION, find_mirror, needs_mirror, running_moto

BUILT_IN = """
terraform {
  backend "http" {}
}

variable "marks" {
  type = string
}

resource "terraform_data" "instance" {
  provisioner "local-exec" {
    command     = "echo made >> $MARKS; while [ ! -e $MARKS.go ]; do sleep 0.05; done"
    environment = { MARKS = var.marks }
  }
}
"""
ON_AWS = """
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
  backend "http" {}
}

provider "aws" {
  region      = "REGION"
  max_retries = 2
}

resource "aws_instance" "instance" {
  ami           = "IMAGE"
  instance_type = "t3.micro"
  root_block_device {
    volume_size = 8
  }
}
"""
PATH = "instance/i-0123456789ab"


class Place:
    """One workspace with a state in the database, and its keeper."""

    def __init__(self, folder: Path, text: str, credentials: dict[str, str]) -> None:
        self.settings = NightingaleHub.from_dict(
            {
                "state_dir": str(folder / "state"),
                "db_url": f"sqlite:///{folder / 'test.sqlite'}",
                "terraform_mirror": find_mirror() or "",
            }
        )
        self.settings.ensure_state()
        self.database = Database(self.settings.db_url)
        self.database.upgrade()
        module = folder / "modules" / "instance"
        module.mkdir(parents=True)
        (module / "main.tf").write_text(text)
        self.template = Template(folder / "templates", module, self.settings.terraform_mirror)
        made = Means(self.settings, self.database, self.template, PATH, credentials)
        self.workspace = Workspace(folder / "workspace", module, made)
        self.marks = folder / "marks"

    async def start(self, action: str):
        await self.template.ensure()
        self.workspace.ensure({"marks": str(self.marks)} if "marks" in self.text else {})
        return await self.workspace.start(action)

    @property
    def text(self) -> str:
        return (self.template.module / "main.tf").read_text()

    def list_resources(self) -> list[dict[str, Any]]:
        """Return the instances of every resource in the newest state."""
        with self.database.read() as conn:
            text = find_state(conn, self.settings.secret_key(), PATH)
        return [
            one
            for each in json.loads(text or "{}").get("resources", [])
            for one in each["instances"]
        ]

    def let_go(self) -> None:
        Path(f"{self.marks}.go").touch()

    def close(self) -> None:
        keeper = find_keeper(self.settings)
        if keeper is not None:
            end_keeper(keeper)
        self.database.dispose()


@pytest.fixture
def place(tmp_path):
    one = Place(tmp_path, BUILT_IN, {})
    yield one
    one.close()


def read_journal(run) -> str:
    path = run.directory / "journal.ndjson"
    return path.read_text() if path.exists() else ""


async def until(look):
    async with asyncio.timeout(60):
        while not look():
            await asyncio.sleep(0.02)


async def test_a_run_whose_provider_the_broker_cannot_start_goes_on_without_it(
    place, monkeypatch, caplog
):
    broken = ProviderBinary("registry.terraform.io/hashicorp/aws", "5", Path("/nonexistent/aws"))
    monkeypatch.setattr(Template, "list_providers", lambda _: [broken])
    environments = []
    provide = Means.provide

    async def listen(self, run):
        environments.append(await provide(self, run))
        return environments[-1]

    monkeypatch.setattr(Means, "provide", listen)
    place.let_go()
    result = await (await place.start("apply")).wait()
    result.raise_for_failure()
    assert "TF_REATTACH_PROVIDERS" not in environments[0]
    assert "runs without the broker" in caplog.text
    assert len(place.list_resources()) == 1


async def test_a_state_that_could_not_be_handed_over_is_pushed_before_the_next_run(
    place, monkeypatch
):
    monkeypatch.setattr(means, "RETRIES", {"TF_HTTP_RETRY_MAX": "0"})
    run = await place.start("apply")
    await until(place.marks.exists)
    keeper = find_keeper(place.settings)
    assert keeper is not None and send_signal(keeper.identity, signal.SIGKILL)
    place.let_go()
    result = await run.wait()
    assert result.exit_status != 0
    errored = place.workspace.directory / ERRORED
    assert errored.exists() and place.list_resources() == []
    ensure_keeper(place.settings)
    again = await (await place.start("apply")).wait()
    again.raise_for_failure()
    assert not errored.exists()
    assert len(place.list_resources()) == 1
    assert place.marks.read_text() == "made\n", "it was made twice"


@needs_mirror
@pytest.mark.timeout(300)
async def test_a_run_that_is_cancelled_through_the_broker_leaves_a_clean_state(tmp_path):
    text = ON_AWS.replace("REGION", REGION).replace("IMAGE", IMAGE)
    with running_moto() as aws:
        place = Place(tmp_path, text, aws.environment)
        try:
            run = await place.start("apply")
            await until(lambda: aws.list_instances() and "Creating..." in read_journal(run))
            assert run.cancel()
            await run.wait()
            [made] = place.list_resources()
            assert "status" not in made  # `tainted`: the next apply would make another
            assert made["attributes"]["id"] == aws.list_instances()[0]["InstanceId"]
            again = await (await place.start("apply")).wait()
            again.raise_for_failure()
            assert len(aws.list_instances()) == 1
        finally:
            place.close()
