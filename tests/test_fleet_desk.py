"""What admins ask about the fleet: orphans, quarantines, homes, datasets; by API and command."""

import json
import os
import pty
import subprocess
import sys

import pytest
from sqlalchemy import insert, select

from nightingale_hub.database import Database
from nightingale_hub.datasets import Dataset, ensure_dataset, list_granted
from nightingale_hub.desk import FLEET_VERBS
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.fleet import serve
from nightingale_hub.instances import get
from nightingale_hub.launch import Launch, create
from nightingale_hub.quarantine import begin_quarantine, find_quarantine
from nightingale_hub.services.supervisor.asked import take_up
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.log import log_leaf
from nightingale_hub.tables.orphans import orphan
from nightingale_hub.tables.supervision import request
from tests.console import ACCESS, READ
from tests.fleet import OFFER
from tests.record import S, add_instance, change
from tests.test_money_api import CONFIG, admin, call

SCOPE = "custom:nightingale:fleet:manage"
SCANS = Dataset("ct", "CT scans", "Lungs", "", "/srv/ct")


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


def ask(conn, name, **fields):
    return serve(conn, name, "root", fields, 200 * S)


def take_up_all(conn):
    """Do what was asked, as the supervisor does, and return the outcomes."""
    numbers = list(conn.execute(select(request.c.id).where(request.c.done_us.is_(None))).scalars())
    for number in numbers:
        take_up(conn, NightingaleHub(), number, 201 * S)
    rows = conn.execute(select(request).where(request.c.id.in_(numbers)))
    return [(row.kind, row.actor, row.outcome) for row in rows]


def list_logged(conn):
    rows = conn.execute(select(log_leaf.c.payload).where(log_leaf.c.kind == "admin"))
    return [(each["verb"], each["actor"]) for each in map(json.loads, rows.scalars())]


def add_orphan(conn, cloud_id="i-0abc", **columns):
    values = {
        "cloud_id": cloud_id,
        "cloud": "aws",
        "region": "us-east-1",
        "instance_id": "i-aaaaaaaaaaaa",
        "instance_type": "g4dn.xlarge",
        "why": "its instance is over",
        "seen_us": S,
    }
    conn.execute(insert(orphan).values(values | columns))


def test_orphans_are_listed_until_they_are_removed(conn):
    add_orphan(conn)
    add_orphan(conn, "i-0def", removed_us=2 * S)
    [found] = ask(conn, "orphan.list")["orphans"]
    assert (found["cloud_id"], found["why"]) == ("i-0abc", "its instance is over")


def test_a_person_is_released_by_name_and_reason_and_may_start_again(conn):
    add_instance(conn, actual="stopped")
    begin_quarantine(conn, "alice", "audit", "Incident 7", S)
    [held] = ask(conn, "quarantine.list")["quarantined"]
    assert (held["owner"], held["actor"], held["reason"]) == ("alice", "audit", "Incident 7")
    ask(conn, "quarantine.release", user="alice", reason="talked it over")
    assert take_up_all(conn) == [("release", "root", "accepted")]
    assert find_quarantine(conn, "alice") is None
    assert list_logged(conn) == [("quarantine.release", "root")]
    with pytest.raises(NotFound, match="'alice' is not in quarantine"):
        ask(conn, "quarantine.release", user="alice", reason="again")


def test_a_home_is_removed_when_its_owners_name_is_said_twice(conn):
    key = add_instance(conn, actual="stopped")
    [home] = ask(conn, "home.list")["homes"]
    assert (home["owner"], home["instance"], home["state"]) == ("alice", key, "stopped")
    with pytest.raises(BadInput, match="confirm must be 'alice'"):
        ask(conn, "home.remove", user="alice", reason="left", confirm="bob")
    assert (take_up_all(conn), list_logged(conn)) == ([], [])
    ask(conn, "home.remove", user="alice", reason="left", confirm="alice")
    assert take_up_all(conn) == [("remove", "root", "accepted")]
    assert get(conn, key).wanted == "gone"
    assert ask(conn, "home.list", user="alice")["homes"][0]["state"] == "to be removed"
    change(conn, key, actual="gone")
    assert ask(conn, "home.list")["homes"] == []
    with pytest.raises(NotFound, match="has no home"):
        ask(conn, "home.remove", user="alice", reason="left", confirm="alice")


def test_each_home_of_a_server_is_listed_and_removed_by_its_place(conn):
    places = [("aws", "eu-west-1"), ("aws", "us-east-1"), ("local", "here")]
    keys = [
        add_instance(conn, actual="stopped", cloud=cloud, region=region, created_us=at_s * S)
        for at_s, (cloud, region) in enumerate(places)
    ]
    # A second use of a home is no second home.
    keys[0] = add_instance(conn, actual="stopped", cloud="aws", region="eu-west-1")
    homes = ask(conn, "home.list")["homes"]
    assert [(each["cloud"], each["region"]) for each in homes] == places
    assert [each["instance"] for each in homes] == keys
    which = {"user": "alice", "reason": "left", "confirm": "alice"}
    for given in ({}, {"cloud": "aws"}):
        with pytest.raises(BadInput, match=r"homes in aws eu-west-1; aws us-east-1.*: give cloud"):
            ask(conn, "home.remove", **which, **given)
    with pytest.raises(NotFound, match="has no home there"):
        ask(conn, "home.remove", **which, cloud="local", region="us-east-1")
    asked = ask(conn, "home.remove", **which, cloud="aws", region="us-east-1")
    assert asked["instance"] == keys[1]
    assert take_up_all(conn) == [("remove", "root", "accepted")]
    assert [get(conn, key).wanted == "gone" for key in keys] == [False, True, False]
    change(conn, keys[1], actual="gone")
    assert [each["instance"] for each in ask(conn, "home.list")["homes"]] == [keys[0], keys[2]]


def test_the_home_of_one_that_runs_stays(conn):
    add_instance(conn)
    with pytest.raises(Conflict, match="is running; stop it first"):
        ask(conn, "home.remove", user="alice", reason="left", confirm="alice")


@pytest.mark.parametrize("actual", ["stopped", "removing"])
def test_no_start_comes_between_the_wish_to_remove_a_home_and_its_end(conn, actual):
    key = add_instance(conn, actual=actual, wanted="gone")
    for server in ("", "other"):
        with pytest.raises(Conflict, match=f"is being removed with instance {key}"):
            create(conn, Launch("alice", server, OFFER, b"x"), 300 * S)
    create(conn, Launch("bob", "", OFFER, b"x"), 300 * S)
    change(conn, key, actual="gone")
    create(conn, Launch("alice", "", OFFER, b"x"), 301 * S)


def test_a_dataset_is_granted_and_taken_back(conn):
    ensure_dataset(conn, SCANS)
    ask(conn, "dataset.grant", dataset="ct", to="alice")
    assert [row.name for row in list_granted(conn, "alice", S)] == ["ct"]
    [listed] = ask(conn, "dataset.list")["datasets"]
    assert (listed["name"], listed["granted_to"]) == ("ct", "alice")
    ask(conn, "dataset.withdraw", dataset="ct", to="alice", reason="the agreement ended")
    assert list_granted(conn, "alice", S) == []
    assert [verb for verb, _ in list_logged(conn)] == ["dataset.grant", "dataset.withdraw"]
    with pytest.raises(NotFound, match="is not granted to 'alice'"):
        ask(conn, "dataset.withdraw", dataset="ct", to="alice", reason="again")
    with pytest.raises(NotFound, match="no dataset 'mri'"):
        ask(conn, "dataset.grant", dataset="mri", to="alice")


BAD = [
    ("dataset.grant", {"dataset": "ct"}, "needs to"),
    ("dataset.grant", {"dataset": "ct", "to": "alice", "path": "/etc"}, "has no field 'path'"),
    ("dataset.grant", {"dataset": ["ct"], "to": "alice"}, "dataset must be a text"),
    ("dataset.grant", {"dataset": "ct", "to": " "}, "to must be a text"),
    ("dataset.grant", {"dataset": "ct", "to": "a" * 301}, "to must be a text"),
    ("home.remove", {"user": "alice", "confirm": "alice"}, "needs reason"),
    ("quarantine.release", [], "must be an object"),
]


@pytest.mark.parametrize(("name", "fields", "says"), BAD)
def test_a_bad_field_is_named_and_nothing_changes(conn, name, fields, says):
    ensure_dataset(conn, SCANS)
    with pytest.raises(BadInput, match=says):
        serve(conn, name, "root", fields, S)
    assert list_logged(conn) == []


def test_the_api_is_for_the_hubs_admins_alone(console):
    root = console.token("root", [ACCESS, SCOPE])
    others = (
        console.token("alice", [ACCESS, f"{READ}!user=alice", f"{SCOPE}!user=alice"]),
        console.token("root", [ACCESS, "custom:nightingale:money:treasury"]),
        console.token("cull", [ACCESS, SCOPE], kind="service"),
        console.server_token("root"),
        "nonsense",
    )
    for name, verb in FLEET_VERBS.items():
        method = "POST" if verb.writes else "GET"
        for token in others:
            assert call(console, method, f"fleet/{name}", token, json={}).status_code == 403, name
        wrong = "GET" if verb.writes else "POST"
        assert call(console, wrong, f"fleet/{name}", root, json={}).status_code == 400
    assert call(console, "GET", "fleet/home.eat", root).status_code == 404
    large = call(console, "POST", "fleet/dataset.grant", root, content="x" * 20_000)
    assert large.status_code == 413
    with console.db.write() as conn:
        ensure_dataset(conn, SCANS)
    granted = call(console, "POST", "fleet/dataset.grant", root, json={"dataset": "ct", "to": "*"})
    assert granted.json() == {"dataset": "ct", "granted_to": "*"}
    listed = call(console, "GET", "fleet/dataset.list", root).json()["datasets"]
    assert [each["granted_to"] for each in listed] == ["*"]
    with console.db.read() as conn:
        assert list_logged(conn)[-1] == ("dataset.grant", "root")


def test_admins_see_orphans_on_their_page(console):
    with console.db.write() as conn:
        add_orphan(conn, why="<b>nobody</b> knows it")
    with console.browser("root", admin=True) as browser:
        page = browser.get("admin").text
    with console.db.write() as conn:
        conn.execute(orphan.delete())
    assert "i-0abc" in page and "&lt;b&gt;nobody" in page and "<b>nobody" not in page
    with console.browser("root", admin=True) as browser:
        assert "Orphans" not in browser.get("admin").text


@pytest.fixture
def here(tmp_path):
    """A hub's configuration and its database, in which alice has a home."""
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(CONFIG.format(state=str(tmp_path / "state")))
    (tmp_path / "state").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'state' / 'nightingale.sqlite'}")
    database.upgrade()
    with database.write() as conn:
        add_instance(conn, actual="stopped")
        add_orphan(conn)
    yield str(path), database
    database.dispose()


def test_the_commands_of_the_hubs_machine(here):
    config, database = here
    given = {"NIGHTINGALE_CONFIG": config}
    shown = admin("orphans", **given)
    assert "i-0abc" in shown.stdout and "its instance is over" in shown.stdout, shown.stderr
    asked = ("home", "remove", "--user", "alice", "--reason", "left the project")
    refused = admin(*asked, **given)
    assert (refused.returncode, "give -y" in refused.stderr) == (2, True)
    done = admin("--json", *asked, "--yes", **given)
    assert done.returncode == 0, done.stderr
    with database.write() as conn:
        [(kind, actor, outcome)] = take_up_all(conn)
    assert (kind, outcome) == ("remove", "accepted") and actor.endswith("on the hub's machine")


def test_a_name_that_is_typed_wrong_removes_nothing(here):
    config, database = here
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "nightingale_hub.instance.cli", "admin", "--config", config),
            *("home", "remove", "--user", "alice", "--reason", "left"),
        ],
        env={"PATH": os.environ["PATH"]},
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(parent, b"alcie\n")
    _, said = process.communicate(timeout=60)
    os.close(parent)
    os.close(child)
    assert process.returncode == 2
    assert "removed for ever, with every file" in said and "confirm must be 'alice'" in said
    with database.read() as conn:
        assert conn.execute(select(request)).all() == []
