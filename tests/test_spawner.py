"""The hub's pages and API start, show and stop instances; nothing that dies loses one."""

import html
import os
import re
import signal
from types import SimpleNamespace
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import delete, insert

from nightingale_hub.agreements import accept
from nightingale_hub.datasets import Dataset, ensure_dataset, grant
from nightingale_hub.errors import BadInput
from nightingale_hub.instances import owner_hash
from nightingale_hub.processes import send_signal
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.spawner.options import find_last_size, parse_form, parse_options
from nightingale_hub.spawner.spawner import TerraformSpawner
from nightingale_hub.tables.customers import customer
from tests.client import SMALL, read_alert, wait_for
from tests.hub import list_processes, running_hub

USERS = ("alice", "bob", "carol", "dave", "erin", "o.hara@x.org")


@pytest.fixture(scope="module")
def hub():
    with running_hub(users=USERS) as hub:
        yield hub


def test_a_server_is_started_from_the_form_used_and_stopped(hub):
    alice = hub.client("alice")
    assert alice.submit_form(SMALL).status_code == 302
    events = alice.list_progress()
    assert events[-1]["ready"] is True
    said = [event["message"] for event in events]
    assert any(each.startswith("terraform_data.guard: Creating") for each in said)
    assert not any("by the last" in each for each in said)  # nothing was launched before
    percents = [event["progress"] for event in events if "progress" in event]
    assert percents == sorted(percents)
    alice.wait_ready()

    row = hub.find_instance("alice")
    assert (row.actual, row.cpu, row.gpu, row.disk) == ("running", "S", "none", "S")
    answer = httpx.get(f"http://{row.host}:{row.port}{row.base_url}api", trust_env=False)
    assert answer.headers["X-Nightingale-Instance"] == row.api_nonce
    assert alice.ask_server("api/status").json()["kernels"] == 0
    owner = {os.stat(f"/proc/{each.pid}").st_uid for each in list_processes(row.id)}
    assert os.geteuid() != 0 or len(owner) > 1  # the agent is root, the server is not

    assert alice.stop().status_code in (202, 204)
    alice.wait_stopped()
    row = hub.wait_state("alice", "stopped")
    assert row.reason == "stopped from the hub"
    assert list_processes(row.id) == []
    edges = [line.edge for line in hub.list_progress(row.id) if line.edge]
    assert edges == [
        "requested_to_launching",
        "launching_to_booting",
        "booting_to_running",
        "running_to_stopping",
        "stopping_to_stopped",
    ]
    assert row.ready_us < row.stop_accepted_us < row.gone_us


def test_the_form_shows_each_size_its_price_and_why_it_can_not_be_had(hub):
    with hub.database.write() as conn:
        ensure_dataset(conn, Dataset("ct", "CT <scans>", "Lungs", "Be kind & cite", "/srv/ct"))
        grant(conn, "ct", "bob", 1)
    unsigned = html.unescape(hub.client("bob").get_form().text)
    assert "CT <scans>" in unsigned and "Terms: Be kind" not in unsigned
    assert '/services/console/datasets#d-ct">read and accept its terms</a> first' in unsigned
    with hub.database.write() as conn:
        accept(conn, "ct", "bob", 1, 1)
    page = hub.client("bob").get_form().text
    inputs = re.findall(r"<input[^>]*form-check-input[^>]*>", page)
    assert len(inputs) == 9
    assert all(re.search(r'data-nano="\d+"', each) for each in inputs if "disabled" not in each)
    checked = " ".join(each for each in inputs if " checked" in each)
    assert re.findall(r'name="(\w+)" value="(\w+)"', checked) == list(SMALL.items())
    gpu = next(each for each in inputs if 'name="gpu" value="S"' in each)
    assert "disabled" in gpu
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    assert "the local cloud has no GPU; choose gpu none" in text
    assert "Billing starts when the server is ready and ends when a stop is accepted" in text
    assert "CT <scans>" in text and "Terms: Be kind & cite" in text
    assert "CT <scans>" not in page and "/srv/ct" not in page
    assert "Every read is logged" in text


BAD_FORMS = [
    ({"cpu": "XXL"}, "cpu size 'XXL' does not exist; choose one of S, M, L, XL"),
    ({"cpu": ""}, "cpu size '' does not exist"),
    ({"cpu": ["S", "M"]}, "option 'cpu' is given 2 times; give it once"),
    ({"image": "x"}, "unknown option 'image'; choose cpu, gpu, disk"),
    ({"disk": "; rm -rf /"}, "does not exist"),
    ({"gpu": '${file("/etc/shadow")}'}, "does not exist"),
    ({"../../cpu": "S"}, "unknown option"),
    ({"disk": "S" * 100_000}, "does not exist"),
    ({"gpu": "S"}, "the local cloud has no GPU; choose gpu none"),
    ({"cpu": "<b>S</b>"}, "does not exist"),
]


@pytest.mark.parametrize(("fields", "says"), BAD_FORMS)
def test_a_form_that_cannot_be_had_says_why_and_makes_nothing(hub, fields, says):
    before = len(hub.list_instances())
    page = hub.client("bob").submit_form({**SMALL, **fields})
    assert page.status_code == 400
    alert = read_alert(page)
    assert says in html.unescape(alert)
    assert "<b>" not in alert and "Traceback" not in page.text
    assert len(page.text) < 30_000
    assert len(hub.list_instances()) == before


def test_a_size_without_a_price_for_its_payer_makes_nothing(hub):
    before = len(hub.list_instances())
    mine = customer.c.id == "user/bob"
    with hub.database.write() as conn:
        values = {"id": "user/bob", "name": "bob", "kind": "private", "currency": "EUR"}
        conn.execute(insert(customer).values(**values, created_us=0))
    try:
        page = hub.client("bob").submit_form(SMALL)
    finally:
        with hub.database.write() as conn:
            conn.execute(delete(customer).where(mine))
    assert page.status_code == 400
    assert "has no price in EUR; choose another size" in html.unescape(read_alert(page))
    assert len(hub.list_instances()) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cpu": "XXL"}, "cpu size 'XXL' does not exist"),
        ({"cpu": ["S"]}, "does not exist"),
        ({"cpu": {"$gt": ""}}, "does not exist"),
        ({"cpu": None}, "does not exist"),
        ({"image": "x"}, "unknown option 'image'"),
        ({"gpu": "S"}, "the local cloud has no GPU"),
    ],
)
def test_options_by_the_api_are_held_to_the_same(hub, options, says):
    before = len(hub.list_instances())
    bob = hub.client("bob")
    refused = bob.start(options)
    assert refused.status_code == 400
    assert says in refused.json()["message"]
    wait_for(lambda: bob.find_server() is None, "the refused server is let go")
    assert len(hub.list_instances()) == before


def test_a_link_starts_nothing(hub):
    before = len(hub.list_instances())
    page = hub.client("bob").http.get("hub/spawn/bob", params=SMALL)
    assert "press Start" in html.unescape(read_alert(page))
    assert len(hub.list_instances()) == before


def test_each_named_server_has_an_instance_of_its_own(hub):
    carol = hub.client("carol")
    carol.start(SMALL)
    carol.start({**SMALL, "disk": "M"}, "big-box")
    carol.wait_ready()
    carol.wait_ready("big-box")
    default, named = hub.find_instance("carol"), hub.find_instance("carol", "big-box")
    assert (default.disk, named.disk) == ("S", "M")
    assert carol.ask_server("api/status", "big-box").status_code == 200
    carol.stop("big-box")
    carol.wait_stopped("big-box")
    hub.wait_state("carol", "stopped", "big-box")
    assert hub.find_instance("carol").actual == "running"
    assert carol.ask_server("api/status").status_code == 200
    # The last size comes first on the next form, and holds when a start says nothing.
    page = carol.get_form("big-box").text
    assert re.search(r'name="disk" value="M"[^>]* checked', page)


@pytest.mark.parametrize("name", ["; rm -rf /", "../../x", "$(id)", "a" * 300, '${file("/x")}'])
def test_a_server_name_that_is_no_plain_word_makes_nothing(hub, name):
    before = len(hub.list_instances())
    assert hub.client("bob").start(SMALL, quote(name, safe="")).status_code in (400, 404)
    assert len(hub.list_instances()) == before


def test_an_owner_s_name_reaches_no_path(hub):
    ohara = hub.client("o.hara@x.org")
    ohara.start(SMALL)
    ohara.wait_ready()
    row = hub.find_instance("o.hara@x.org")
    assert row.base_url == "/user/o.hara@x.org/"
    assert (hub.state / "homes" / owner_hash("o.hara@x.org")).is_dir()
    below = [*hub.state.rglob("*")]
    assert not any("hara" in each.name for each in below)
    ohara.stop()
    hub.wait_state("o.hara@x.org", "stopped")


def test_a_stop_from_the_console_makes_the_hub_let_go_at_once(hub):
    dave = hub.client("dave")
    dave.start(SMALL)
    dave.wait_ready()
    token = {"Authorization": f"Bearer {dave.token}"}
    url = f"{hub.url}services/console/api/stop"
    accepted = httpx.post(url, headers=token, timeout=30, trust_env=False)
    assert accepted.json().get("accepted") is True, accepted.text
    # Sooner than by its own look at the record, every 5 s, once the instance is gone.
    wait_for(lambda: (dave.find_server() or {}).get("pending") == "stop", "the hub stops it", 3)
    dave.wait_stopped()
    assert hub.wait_state("dave", "stopped").reason.startswith("dave asked for it")


def test_a_killed_supervisor_s_successor_goes_on(hub):
    erin = hub.client("erin")
    erin.submit_form(SMALL)
    hub.wait_state("erin", "booting")
    hub.kill_service("supervisor")
    erin.wait_ready()
    row = hub.find_instance("erin")
    assert [each.id for each in hub.list_instances("erin")] == [row.id]
    said = [line.message for line in hub.list_progress(row.id)]
    assert any(re.fullmatch(r"It takes about \d+ s, by the last \w+ .*here", each) for each in said)
    edges = [line.edge for line in hub.list_progress(row.id) if line.edge]
    assert edges == ["requested_to_launching", "launching_to_booting", "booting_to_running"]


def test_an_instance_that_ends_by_itself_is_removed_and_its_server_let_go(hub):
    erin = hub.client("erin")
    erin.start(SMALL)  # runs already after the test before; alone, it does not
    erin.wait_ready()
    row = hub.find_instance("erin")
    for each in list_processes(row.id):
        send_signal(each, signal.SIGKILL)
    erin.wait_stopped()
    row = hub.wait_state("erin", "stopped")
    assert row.reason == "it ended by itself"
    assert row.gone_us >= row.stop_accepted_us > row.ready_us


class TestWithoutAHub:
    """What needs no hub process."""

    @pytest.fixture
    def spawner(self, tmp_path):
        def make(db_url):
            settings = NightingaleHub.from_dict({"state_dir": str(tmp_path), "db_url": db_url})
            user = SimpleNamespace(name="alice", settings={})
            return TerraformSpawner(hub_settings=settings.to_dict(), user=user)

        return make

    async def test_without_a_database_a_server_runs_as_far_as_anybody_knows(
        self, spawner, tmp_path
    ):
        assert await spawner(f"sqlite:///{tmp_path / 'no' / 'such.sqlite'}").poll() is None

    async def test_a_server_without_an_instance_does_not_run(self, spawner, database):
        assert await spawner(database.url).poll() == 0

    @pytest.mark.parametrize("options", [None, [], "S", {1: "S"}, {"cpu": {}}])
    def test_options_that_are_none_are_refused(self, options):
        with pytest.raises(BadInput):
            parse_options(options)
        assert str(find_last_size(options)) == "cpu S, gpu none, disk S"

    def test_a_form_may_leave_a_size_out_and_holds_the_hub_s_own_field(self):
        assert parse_form({"cpu": ["M"], "_xsrf": ["x"]}) == {**SMALL, "cpu": "M"}
