"""Stopped means that the cloud said so; until then the next start waits, and says so."""

import os

import pytest

from tests.client import SMALL
from tests.fleet import TerraformThatFailsToDestroy
from tests.hub import list_processes, running_hub


@pytest.fixture(scope="module")
def terraform(tmp_path_factory):
    return TerraformThatFailsToDestroy(tmp_path_factory.mktemp("fails") / "bin")


@pytest.fixture(scope="module")
def hub(terraform):
    path = f"{terraform.folder}:{os.environ['PATH']}"
    config = "c.TerraformSpawner.stop_timeout_s = 1.5\nc.NightingaleHub.stop_retry_s = 0.5"
    with running_hub(base_url="/lab/", config=config, environment={"PATH": path}) as hub:
        yield hub
        if (terraform.folder / "broken").exists():
            terraform.repair()


def test_it_stays_stopping_and_the_next_start_says_why(hub, terraform):
    alice = hub.client("alice")
    alice.start(SMALL)
    alice.wait_ready()
    alice.stop()
    alice.wait_stopped()
    row = hub.find_instance("alice")
    assert (row.actual, row.gone_us) == ("stopping", None)
    assert list_processes(row.id)
    alice.submit_form(SMALL)
    last = alice.list_progress()[-1]
    assert last["failed"] is True
    assert f"instance {row.id} of this server is not gone" in last["message"]
    assert "the cloud is down" in last["message"]
    assert [each.id for each in hub.list_instances("alice")] == [row.id]
    terraform.repair()
    hub.wait_state("alice", "stopped")
    alice.start(SMALL)
    alice.wait_ready()
    assert hub.find_instance("alice").id != row.id
