"""What is left to spend: the least that a budget or the credit leaves, to the second."""

from typing import Any

import pytest

from nightingale_hub.services.billing import holds
from nightingale_hub.services.billing.budgets import list_live_holds, pending_micro
from nightingale_hub.services.billing.left import find_left
from nightingale_hub.tables.budgets import hold
from tests.desk import DAY, NOV, add_lab, ask
from tests.record import add_instance

AT = NOV + DAY


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


def left_of(conn, owner="alice", running=0, region="here"):
    return find_left(conn, owner, "local", region, running, AT)


def give(conn, amount, **more):
    ask(
        conn,
        "grant.add",
        NOV,
        customer="org/lab",
        source="AWS",
        amount=amount,
        end="2026-12-01",
        **more,
    )


def hold_for(conn, owner):
    """Have a launch of *owner* held for, and return what is held."""
    values: Any = {"actual": "requested", "created_us": AT, "allocated_us": None}
    key = add_instance(conn, owner=owner, nano_usd_per_hour=3_600_000_000, ready_us=None, **values)
    holds.ask(conn, key, AT)
    held = sum(pending_micro(each) for each in list_live_holds(conn) if each.instance_id == key)
    assert held > 0
    return held


def test_where_nothing_limits_it_nothing_is_said(conn):
    add_lab(conn, NOV, kind="private")
    assert left_of(conn) is None


def test_the_budget_that_leaves_least_is_shown_less_what_runs(conn):
    add_lab(conn, NOV, kind="private")
    ask(conn, "budget.add", NOV, customer="org/lab", limit="100")
    ask(conn, "budget.add", NOV, customer="org/lab", user="alice", limit="40")
    ask(conn, "budget.add", NOV, customer="org/lab", user="bob", limit="1")
    assert left_of(conn, running=3_400_000) == {
        "currency": "USD",
        "left_micro": 36_600_000,
        "limit_micro": 40_000_000,
        "of": "the budget of alice, $40.00 a month",
    }


def test_what_is_held_ahead_for_oneself_is_left_and_for_others_is_not(conn):
    add_lab(conn, NOV, kind="private")
    ask(conn, "member.add", NOV, customer="org/lab", user="bob")
    ask(conn, "budget.add", NOV, customer="org/lab", limit="40")
    hold_for(conn, "alice")
    held = hold_for(conn, "bob")
    assert left_of(conn)["left_micro"] == 40_000_000 - held


def test_what_is_held_for_others_is_not_left_of_a_shared_credit(conn):
    add_lab(conn, NOV)
    ask(conn, "member.add", NOV, customer="org/lab", user="bob")
    give(conn, "50")
    hold_for(conn, "alice")
    held = hold_for(conn, "bob")
    assert left_of(conn)["left_micro"] == 50_000_000 - held
    assert left_of(conn)["limit_micro"] == 50_000_000


def test_what_is_held_for_another_project_is_not_left_of_the_budget_of_this_one(conn):
    add_lab(conn, NOV, kind="private")
    hold_for(conn, "alice")
    conn.execute(hold.update().values(project="p0"))  # since then she works on another
    ask(conn, "budget.add", NOV, customer="org/lab", project="p1", limit="40")
    assert left_of(conn)["left_micro"] == 40_000_000


def test_a_researcher_sees_the_credit_that_fits_them(conn):
    add_lab(conn, NOV)
    give(conn, "5")
    give(conn, "7", region="elsewhere")
    assert left_of(conn)["left_micro"] == 5_000_000
    assert (left_of(conn, region="elsewhere")["left_micro"]) == 12_000_000
    assert left_of(conn)["of"] == "the credit"


def test_what_is_overspent_leaves_nothing(conn):
    add_lab(conn, NOV)
    assert left_of(conn, running=1)["left_micro"] == 0
