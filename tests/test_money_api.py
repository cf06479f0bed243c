"""The console's money: its scopes, its OpenAPI, and the command line on the hub's own machine."""

import json
import os
import subprocess
import sys

import httpx
import pytest

from nightingale_hub.database import Database
from nightingale_hub.desk import FLEET_VERBS, VERBS
from nightingale_hub.services.billing.desk import verbs
from nightingale_hub.services.console.routes import API
from tests.console import ACCESS, READ

ADMIN = "custom:nightingale:money:treasury"
SET = "custom:nightingale:money:set"


@pytest.fixture
def billing(console):
    part = console.parts["billing"]
    part.answers["desk/.*"] = lambda _, body: {"fields": body["fields"]}
    part.answers["quote"] = part.answers["compare"] = lambda query, _: {"query": query}
    yield part
    for name in ("desk/.*", "quote", "compare"):
        del part.answers[name]


def call(console, method, path, token, **content):
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{console.url}api/{path}"
    return httpx.request(method, url, headers=headers, trust_env=False, timeout=20, **content)


def test_billing_is_asked_in_the_name_of_whose_token_it_is(console, billing):
    alice = console.token("alice", [ACCESS, f"{READ}!user=alice", f"{SET}!user=alice"])
    reply = call(console, "GET", "money/grant.list?customer=org/lab", alice)
    assert reply.json() == {"fields": {"customer": "org/lab"}}
    assert call(console, "POST", "money/budget.add", alice, json={"limit": "5"}).status_code == 200
    asked = [(path, body["actor"], body["is_admin"]) for _, path, _, body in billing.asked]
    assert asked == [("desk/grant.list", "alice", False), ("desk/budget.add", "alice", False)]
    root = console.token("root", [ACCESS, ADMIN])
    assert call(console, "POST", "money/grant.add", root, json={}).status_code == 200
    assert billing.asked[-1][3]["is_admin"] is True


def test_what_a_token_may_not_ask_never_reaches_billing(console, billing):
    person = console.token("alice", [ACCESS, f"{READ}!user=alice"])
    setter = console.token("alice", [ACCESS, f"{READ}!user=alice", f"{SET}!user=alice"])
    server = console.server_token("alice")
    bob = console.token("alice", [ACCESS, f"{READ}!user=bob", f"{SET}!user=bob"])
    service = console.token("cull", [ACCESS, ADMIN], kind="service")
    for token, verb in (
        (person, "grant.add"),  # an admin's
        (setter, "grant.add"),
        (person, "budget.add"),  # needs the scope that sets
        (server, "grant.list"),  # notebook code must not see a customer's
        (bob, "grant.list"),
        (service, "grant.list"),
        ("nonsense", "grant.list"),
    ):
        method = "POST" if VERBS[verb].writes else "GET"
        reply = call(console, method, f"money/{verb}", token)
        assert reply.status_code == 403, (verb, reply.text)
    root = console.token("root", [ACCESS, ADMIN])
    for method, path, content, status in (
        ("GET", "money/grant.add", {}, 400),
        ("POST", "money/grant.list", {}, 400),
        ("GET", "money/grant.eat", {}, 404),
        ("POST", "money/grant.add", {"content": "x" * 10_000_000}, 413),
        ("POST", "money/price.add", {"content": "x" * 10_000_000}, 413),
        ("POST", "money/grant.add", {"content": "["}, 400),
    ):
        assert call(console, method, path, root, **content).status_code == status, path
    assert billing.asked == []


def test_a_server_may_ask_what_a_size_costs_and_what_its_run_would_have(console, billing):
    server = console.server_token("alice")
    assert call(console, "GET", "quote?cpu=M", server).json() == {
        "query": {"owner": "alice", "cpu": "M"}
    }
    assert call(console, "GET", "compare", server).status_code == 404
    key = console.launch("alice")
    assert call(console, "GET", "compare", server).json()["query"]["instance"] == key


def test_the_table_of_verbs_says_what_the_desk_does():
    assert VERBS.keys() == verbs.VERBS.keys()
    assert {name: each.writes for name, each in VERBS.items()} == {
        name: each.writes for name, each in verbs.VERBS.items()
    }


def test_the_openapi_describes_every_route_and_names_none_that_is_not_there(console):
    described = httpx.get(f"{console.url}api/openapi.json", trust_env=False).json()
    plain = {f"/{path[4:]}".replace("\\", "") for path, _ in API if "(" not in path}
    desks = {f"/money/{name}" for name in VERBS} | {f"/fleet/{name}" for name in FLEET_VERBS}
    assert set(described["paths"]) == plain | desks
    assert set(described["paths"]["/status"]) == {"get"}
    assert set(described["paths"]["/resize"]) == {"get", "post"}
    operations = [one for path in described["paths"].values() for one in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    assert all(each["summary"] for each in operations)
    schema = described["paths"]["/money/grant.add"]["post"]["requestBody"]["content"]
    assert set(schema["application/json"]["schema"]["required"]) == {"source", "amount", "end"}


CONFIG = """
import nightingale_hub
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.NightingaleHub.state_dir = {state!r}
nightingale_hub.configure(c)
"""


@pytest.fixture
def config(tmp_path):
    """The configuration of a hub whose database is there."""
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(CONFIG.format(state=str(tmp_path / "state")))
    (tmp_path / "state").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'state' / 'nightingale.sqlite'}")
    database.upgrade()
    database.dispose()
    return path


def admin(*arguments, **environment):
    """Run `nightingale admin` as on the hub's machine."""
    return subprocess.run(
        [sys.executable, "-m", "nightingale_hub.instance.cli", "admin", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_admin_works_on_the_hubs_machine_with_its_configuration(config, tmp_path):
    made = admin(
        *("--config", str(config), "customer", "add"),
        *("--id", "org/lab", "--name", "The Lab", "--kind", "non_profit"),
    )
    assert made.returncode == 0, made.stderr
    given = {"NIGHTINGALE_CONFIG": str(config)}
    granted = admin(
        *("--json", "grant", "add", "--customer", "org/lab", "--source", "AWS"),
        *("--amount", "12.50", "--end", "2099-01-01"),
        **given,
    )
    assert json.loads(granted.stdout)["id"].startswith("g-"), granted.stderr
    shown = admin("grant", "list", "--customer", "org/lab", **given).stdout
    assert "12.50" in shown and "2099-01-01 00:00:00 UTC" in shown
    pdf = tmp_path / "month.pdf"
    admin("month", "pdf", "--customer", "org/lab", "--out", str(pdf), **given)
    assert pdf.read_bytes().startswith(b"%PDF-")


def test_a_wrong_command_of_an_admin_says_what_is_wrong(config):
    given = {"NIGHTINGALE_CONFIG": str(config)}
    for arguments, code, said in (
        (("grant", "add", "--source", "AWS", "--amount", "-5", "--end", "2099-01-01"), 2, ""),
        (("grant", "list", "--customer", "org/none", "--nonsense"), 2, "nonsense"),
        (("invoice", "finalise", "--customer", "org/no", "--month", "2026-01"), 4, "no customer"),
        (("price", "add", "--csv", "/nonexistent"), 2, "cannot be read"),
    ):
        done = admin(*arguments, **given)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
    assert admin("--config", "/none.py", "plan", "list").returncode == 2
    assert admin("plan", "list").returncode == 2  # neither a configuration nor a token
