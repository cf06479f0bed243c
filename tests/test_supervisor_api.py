"""What the console and agents may ask of a supervisor, and what bad input does: nothing."""

import os
from typing import Any

import pytest
from sqlalchemy import insert, select

from nightingale_hub.activity import find_activity
from nightingale_hub.clock import now_us
from nightingale_hub.instances import get
from nightingale_hub.services.supervisor.service import make
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.customers import customer
from nightingale_hub.tables.supervision import activity, resize
from tests.prices import add_prices
from tests.record import add_instance
from tests.serving import serving

EVIL = ("; rm -rf /", '${file("/etc/passwd")}', "../../etc")
REPORT: dict[str, Any] = {
    "busy_kernels": 1,
    "programs": 0,
    "gpu_percent": None,
    "read_us": None,
    "asked_us": None,
    "unknown": [],
    "faults": [],
}


@pytest.fixture
async def client(database, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "supervisor-token")
    settings = NightingaleHub(state_dir=str(tmp_path / "state"))
    async with serving("supervisor", database, make, settings) as (client, _):
        yield client


@pytest.fixture
def key(database):
    with database.write() as conn:
        add_prices(conn)
        return add_instance(conn, cpu="S", disk="S")


def list_resizes(database):
    with database.read() as conn:
        return conn.execute(select(resize)).all()


async def test_a_plan_says_what_it_costs_and_changes_nothing(client, database, key):
    answer = await client.get(f"instances/{key}/resize", cpu="M", gpu="none", disk="S")
    plan = answer.json()
    assert (plan["now"]["cpu"], plan["then"]["cpu"]) == ("S", "M")
    more = plan["then"]["nano_per_hour"] - plan["now"]["nano_per_hour"]
    assert (plan["more_nano_per_hour"], plan["currency"]) == (more, "USD")
    assert list_resizes(database) == []


async def test_a_resize_is_written_down_with_who_asked(client, database, key):
    body = {"cpu": "M", "gpu": "none", "disk": "S", "actor": "alice\x1b[2J"}
    answer = await client.post(f"instances/{key}/resize", "console-token", json=body)
    assert answer.status_code == 200
    [row] = list_resizes(database)
    assert (row.cpu, row.phase) == ("M", "asked")
    assert "\x1b" not in row.actor


async def test_a_resize_without_a_price_for_its_payer_is_not_written_down(client, database, key):
    with database.write() as conn:
        values = {"id": "user/alice", "name": "alice", "kind": "private", "currency": "EUR"}
        conn.execute(insert(customer).values(**values, created_us=0))
    body = {"cpu": "M", "gpu": "none", "disk": "S", "actor": "alice"}
    answer = await client.post(f"instances/{key}/resize", "console-token", json=body)
    assert (answer.status_code, "no price in EUR" in answer.text) == (404, True)
    assert list_resizes(database) == []


async def test_a_wrong_field_of_a_resize_changes_nothing(client, database, key):
    for name in ("cpu", "gpu", "disk", "region", "actor"):
        for value in (*EVIL, "XXL", "", None, 1, ["M"], {"M": 1}, "M" * 100_000):
            if name == "actor" and value in (*EVIL, "XXL"):
                continue  # a name; it is only ever shown
            body = {"cpu": "M", "gpu": "none", "disk": "S", "actor": "alice", name: value}
            answer = await client.post(f"instances/{key}/resize", "console-token", json=body)
            assert answer.status_code in (400, 413), (name, value)
            assert answer.json()["error"]["message"]
    assert list_resizes(database) == []


async def test_an_instance_that_is_none_is_not_found(client, database):
    for name in ("i-000000000000", *EVIL):
        path = f"instances/{name.replace('/', '%2F')}"
        for what, body in (("resize", {"cpu": "M", "actor": "alice"}), ("keep", {"for_s": 60})):
            answer = await client.post(f"{path}/{what}", "console-token", json=body)
            assert answer.status_code == 404, (name, what)
    assert list_resizes(database) == []


async def test_a_size_that_this_machine_lacks_is_no_offer(client, database, key):
    body = {"cpu": "S", "gpu": "S", "disk": "S", "actor": "alice"}
    answer = await client.post(f"instances/{key}/resize", "console-token", json=body)
    assert answer.json()["error"]["code"] == "no_offer"
    assert (os.cpu_count() or 1) > 0 and list_resizes(database) == []


async def test_only_the_console_may_change(client, database, key):
    for token in ("alice-token", "billing-token", "", "unknown"):
        for path, body in (("resize", {"cpu": "M", "actor": "x"}), ("keep", {"for_s": 60})):
            answer = await client.post(f"instances/{key}/{path}", token, json=body)
            assert answer.status_code == 403
    assert list_resizes(database) == []


async def test_an_owner_s_word_is_kept_within_the_limit(client, database, key):
    before_us = now_us()
    answer = await client.post(f"instances/{key}/keep", "console-token", json={"for_s": 7200})
    until_us = answer.json()["keep_until_us"]
    assert before_us + 7_200_000_000 <= until_us <= now_us() + 7_200_000_000
    with database.read() as conn:
        row = find_activity(conn, key)
    assert row is not None and row.keep_until_us == until_us
    for for_s in (59, 86_401, -1, 1.5, "2h", True, None, 2**70):
        refused = await client.post(f"instances/{key}/keep", "console-token", json={"for_s": for_s})
        assert refused.status_code == 400, for_s


async def test_an_agent_reports_with_its_own_credential_alone(client, database, key):
    token = f"credential of {key}"
    assert (await client.post("activity", token, json=REPORT)).status_code == 200
    with database.read() as conn:
        row = find_activity(conn, key)
    assert row is not None and row.why == "1 busy kernel"
    assert (await client.post("activity", "another's", json=REPORT)).status_code == 403
    for changed in ({"programs": EVIL[1]}, {"more": 1}, {"faults": [1]}):
        answer = await client.post("activity", token, json={**REPORT, **changed})
        assert answer.status_code == 400
    with database.read() as conn:
        assert len(conn.execute(select(activity)).all()) == 1
        assert get(conn, key).wanted == "running"
