"""No instance is made before its money is held, and billing tells only those who may ask."""

import json

import pytest
from sqlalchemy import func, select

from nightingale_hub.clock import now_us
from nightingale_hub.offers import Size
from nightingale_hub.ports import find_free_ports
from nightingale_hub.services.billing.keeper import keep
from nightingale_hub.services.billing.service import make
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.budgets import hold
from nightingale_hub.tables.credit import credit_grant
from tests.desk import add_lab, ask
from tests.fleet import running_fleet, supervising
from tests.prices import add_prices
from tests.record import S, add_instance
from tests.serving import serving

FIELDS = {"customer": "org/lab", "source": "AWS", "amount": "5", "end": "2099-01-01"}


@pytest.fixture
async def fleet(database, tmp_path):
    ports = {"billing": find_free_ports(1)[0]}
    async with running_fleet(database, tmp_path / "state", service_ports=ports) as fleet:
        # What ends the fleet at the end asks for no money.
        yield fleet
        fleet.settings.service_ports = {}


def billing(fleet):
    return serving(
        "billing", fleet.database, make, NightingaleHub(), fleet.settings.service_ports["billing"]
    )


async def test_a_launch_waits_for_billing_says_so_and_then_goes_on(fleet):
    key = fleet.ask()
    async with supervising(fleet):
        await fleet.wait(lambda: any("Waiting for billing" in x for x in fleet.list_lines(key)))
        assert fleet.get(key).actual == "requested" and fleet.list_runs(key) == []
        async with billing(fleet):
            await fleet.wait_state(key, "running")
    with fleet.database.read() as conn:
        kept = conn.execute(select(hold)).one()
        assert (kept.instance_id, kept.customer, kept.state) == (key, "user/alice", "held")


async def test_a_launch_whose_money_cannot_be_held_ends_with_the_reason_and_makes_nothing(fleet):
    with fleet.database.write() as conn:
        add_lab(conn, now_us(), kind="private")
        ask(conn, "budget.add", now_us(), customer="org/lab", limit="0.001")
    key = fleet.ask()
    async with billing(fleet), supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert (row.cause, "$0.001" in row.reason) == ("budget", True)
    assert fleet.list_runs(key) == []
    with fleet.database.read() as conn:
        assert conn.execute(select(func.count()).select_from(hold)).scalar_one() == 0


async def test_a_launch_that_billing_has_no_price_for_ends_with_the_reason(fleet):
    with fleet.database.write() as conn:
        add_lab(conn, now_us(), kind="private", currency="EUR")
    key = fleet.ask()
    async with billing(fleet), supervising(fleet):
        row = await fleet.wait_state(key, "stopped")
    assert (row.cause, "has no price in EUR" in row.reason) == ("launch failed", True)
    assert fleet.list_runs(key) == []


async def test_what_no_budget_pays_for_any_more_is_stopped_by_the_supervisor(fleet):
    with fleet.database.write() as conn:
        add_lab(conn, now_us(), kind="private")
        ask(conn, "budget.add", now_us(), customer="org/lab", limit="0.006")
    key = fleet.ask()
    async with billing(fleet), supervising(fleet):
        ready_us = (await fleet.wait_state(key, "running")).ready_us
        with fleet.database.write() as conn:
            keep(conn, key, ready_us + S)
            kept = conn.execute(select(hold)).one()
            assert (kept.state, fleet.get(key).wanted) == ("warned", "running")
            # As if the money had run down to what pays for the stop itself.
            keep(conn, key, kept.stop_us)
        row = await fleet.wait_state(key, "stopped")
    assert row.cause == "budget" and row.reason.startswith("billing: the budget has ended")
    assert any("Save your work" in line for line in fleet.list_lines(key))


async def test_a_resize_whose_money_cannot_be_held_is_refused_before_anything_is_changed(fleet):
    with fleet.database.write() as conn:
        add_prices(conn)
        add_lab(conn, now_us(), kind="private")
        limit = ask(conn, "budget.add", now_us(), customer="org/lab", limit="0.05")
    key = fleet.ask()
    big = {"cpu": "M", "gpu": "none", "disk": "S"}
    async with billing(fleet), supervising(fleet):
        await fleet.wait_state(key, "running")
        said = await fleet.client.post(
            f"instances/{key}/resize", "console-token", json={**big, "actor": "alice"}
        )
        error = said.json()["error"]
        assert (said.status_code, error["code"]) == (400, "over_budget"), said.text
        assert "$0.05 per month" in error["message"]
        fleet.resize(key, Size(**big))  # as another part asks: nobody waits for the answer
        dropped = await fleet.wait_resized(key, "dropped")
        assert dropped.outcome.startswith("It keeps its size: the money for")
        row = fleet.get(key)
        assert (row.actual, row.cpu, len(fleet.list_runs(key))) == ("running", "S", 1)
        with fleet.database.write() as conn:
            ask(conn, "budget.change", now_us(), id=limit["id"], limit="5")
        said = await fleet.client.post(
            f"instances/{key}/resize", "console-token", json={**big, "actor": "alice"}
        )
        assert said.json()["more_nano_per_hour"] == 920_500_000 - 30_000_000
        with fleet.database.write() as conn:
            keep(conn, key, now_us())  # before the resize is done, it is kept at the new rate
            assert conn.execute(select(hold.c.nano_per_hour)).scalar_one() == 920_500_000
        await fleet.wait_resized(key, "done")
    assert fleet.get(key).nano_usd_per_hour == 920_500_000


async def test_billing_holds_once_quotes_compares_and_refuses_whoever_may_not_ask(database):
    with database.write() as conn:
        add_prices(conn)
        key = add_instance(conn, actual="requested", ready_us=None, created_us=now_us())
        add_lab(conn, now_us())
    async with serving("billing", database, make) as (client, _):
        for token in ("console-token", "alice-token", "", "nonsense"):
            reply = await client.post("holds", token, json={"instance_id": key})
            assert reply.status_code == 403, token
        resize = {"instance_id": key, "cpu": "M", "nano_usd_per_hour": 5}
        for wrong, status in (
            ({}, 400),
            ({"instance_id": 7}, 400),
            ({"instance_id": "i-0"}, 404),
            (resize, 400),
            ({**resize, "instance_type": 7}, 400),
        ):
            assert (
                await client.post("holds", "supervisor-token", json=wrong)
            ).status_code == status
        held = [
            (await client.post("holds", "supervisor-token", json={"instance_id": key})).json()
            for _ in range(2)
        ]
        assert held[0] == held[1] and held[0]["state"] == "held"
        quote = (await client.get("quote", owner="bob", cpu="M")).json()
        assert quote["nano_per_hour"] == 20_000_000 + 900_000_000 + 500_000
        assert (quote["seconds_left"], quote["refusal"]) == (None, "")
        assert (await client.get("quote", owner="bob", cpu="XXL")).status_code == 400
        compared = (await client.get("compare", owner="alice", instance=key)).json()
        assert [each["size"] for each in compared["others"] if each["is_own"]] == [compared["size"]]
        assert (await client.get("compare", owner="bob", instance=key)).status_code == 404


async def test_the_desk_takes_no_float_no_flood_and_no_stranger(database):
    with database.write() as conn:
        add_lab(conn, now_us())
    body = {"actor": "root", "is_admin": True, "fields": FIELDS}
    async with serving("billing", database, make) as (client, _):
        for token in ("supervisor-token", "alice-token", ""):
            assert (await client.post("desk/grant.add", token, json=body)).status_code == 403
        wrong = [
            (json.dumps({**body, "fields": {**FIELDS, "amount": 1.5}}), 400, "float"),
            (json.dumps({**body, "fields": {**FIELDS, "source": "x" * 10_000_000}}), 413, "KiB"),
            (json.dumps({**body, "fields": []}), 400, "fields"),
            (json.dumps({**body, "is_admin": False}), 403, "admin"),
            (json.dumps({**body, "is_admin": "yes"}), 403, "admin"),
            ("[" * 100_000, 413, "KiB"),
            ("{", 400, "JSON"),
        ]
        for content, status, said in wrong:
            reply = await client.post("desk/grant.add", "console-token", content=content)
            assert (reply.status_code, said in reply.text) == (status, True), reply.text
        assert (await client.post("desk/grant.eat", "console-token", json=body)).status_code == 404
        with database.read() as conn:
            assert conn.execute(select(func.count()).select_from(credit_grant)).scalar_one() == 0
        made = await client.post("desk/grant.add", "console-token", json=body)
        assert made.status_code == 200, made.text
