"""What the hub knows is a cache: the record brings the next hub to the same."""

import os

import httpx
import pytest
from sqlalchemy import select

from nightingale_hub.clock import now_us
from nightingale_hub.demo.kernel import Kernel
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.metering import segment
from tests.client import SMALL, wait_for
from tests.fleet import TerraformThatIsSlow
from tests.hub import list_processes, running_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    slow = TerraformThatIsSlow(tmp_path_factory.mktemp("slow") / "bin")
    path = f"{slow.folder}:{os.environ['PATH']}"
    with running_hub(users=("alice", "bob"), environment={"PATH": path}) as hub:
        yield hub


def test_a_running_server_goes_on_and_its_token_ends_with_it(hub):
    alice = hub.client("alice")
    alice.start(SMALL)
    alice.wait_ready()
    before = hub.find_instance("alice")
    token = read_token(before.id)
    hub.kill()
    # The proxy lives, and so does the server behind it.
    assert httpx.get(f"{hub.url}user/alice/api", trust_env=False).status_code == 200
    hub.restart()
    alice.wait_ready()
    assert forget_lease(hub.find_instance("alice")) == forget_lease(before)
    assert alice.ask_server("api/status").status_code == 200
    assert ask_as(hub, token) == 200
    alice.stop()
    alice.wait_stopped()
    assert ask_as(hub, token) == 403
    assert list_processes(before.id) == []


def forget_lease(row):
    """Return the record but for who works on it now: the next hub's supervisor takes it up."""
    return {name: value for name, value in row._asdict().items() if not name.startswith("lease")}


def test_a_server_that_was_starting_is_known_and_taken_up(hub):
    bob = hub.client("bob")
    bob.submit_form(SMALL)
    row = hub.wait_state("bob", "launching")
    hub.kill()
    hub.restart()
    bob.wait_ready()
    assert hub.find_instance("bob").id == row.id
    assert [each.id for each in hub.list_instances("bob")] == [row.id]
    token = read_token(row.id)
    bob.stop()
    bob.wait_stopped()
    assert ask_as(hub, token) == 403
    assert hub.wait_state("bob", "stopped").gone_us is not None


def test_a_start_that_is_cancelled_leaves_nothing(hub):
    bob = hub.client("bob")
    bob.submit_form(SMALL)
    hub.wait_state("bob", "launching")
    bob.stop()
    row = hub.wait_state("bob", "stopped")
    assert row.ready_us is None
    assert list_processes(row.id) == []


def read_token(instance_id):
    """Return the hub token that an instance's server was started with."""
    for each in list_processes(instance_id):
        with open(f"/proc/{each.pid}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(b"JUPYTERHUB_API_TOKEN="):
                    return entry.partition(b"=")[2].decode()
    raise AssertionError(f"no server of {instance_id} runs")


def ask_as(hub, token):
    """Return what the hub answers to who shows *token*."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{hub.url}hub/api/user", headers=headers, trust_env=False).status_code


def test_a_notebook_works_on_and_the_statement_is_right_to_the_second(hub):
    alice = hub.client("alice")
    before_us = now_us()
    alice.start(SMALL)
    alice.wait_ready()
    ready_us = now_us()
    kernel = Kernel(f"{hub.url}user/alice/", alice.token)
    kernel.run("import os; pid, cells = os.getpid(), 1")
    hub.kill()
    # With the hub dead the notebook computes and its proxy answers.
    assert kernel.run("cells += 1; print(cells, pid == os.getpid())") == "2 True\n"
    hub.restart()
    assert kernel.run("cells += 1; print(cells, pid == os.getpid())") == "3 True\n"
    kernel.close()
    stopping_us = now_us()
    alice.stop()
    alice.wait_stopped()
    row = hub.list_instances("alice")[0]
    line = wait_for(lambda: find_line(hub, row.id), "the line is posted")
    # Exact by the record, whose two instants lie where our own clock saw them.
    assert (line.start_us, line.end_us) == (row.ready_us, row.stop_accepted_us)
    assert before_us < row.ready_us <= ready_us
    assert stopping_us <= row.stop_accepted_us <= row.gone_us
    assert line.seconds == -(-(row.stop_accepted_us - row.ready_us) // 1_000_000)
    assert abs(line.seconds * row.nano_usd_per_hour - line.amount_micro * 3_600_000) <= 1_800_000


def find_line(hub, instance_id):
    """Return the statement's one line of an instance, or None before it is posted."""
    query = (
        select(line_item)
        .join(segment, segment.c.id == line_item.c.segment_id)
        .where(segment.c.instance_id == instance_id)
    )
    with hub.database.read() as conn:
        return conn.execute(query).one_or_none()
