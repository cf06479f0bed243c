"""Holds and budgets: what is posted and held never passes a limit, whatever happens when."""

import random
from typing import Any

import pytest
from sqlalchemy import select

from nightingale_hub.errors import BadInput, Conflict, NotFound, OverBudget
from nightingale_hub.instances import get, list_progress
from nightingale_hub.notices import list_notices
from nightingale_hub.services.billing import holds
from nightingale_hub.services.billing.alerts import list_alerts
from nightingale_hub.services.billing.budgets import get_budget, stand
from nightingale_hub.services.billing.keeper import keep, list_kept
from nightingale_hub.services.billing.reach import (
    AHEAD_S,
    GRACE_S,
    STOP_P99_S,
    launch_seconds,
    price_of,
    seconds_for,
)
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.budgets import budget, hold
from nightingale_hub.tables.metering import segment
from nightingale_hub.tables.supervision import request
from tests.desk import DAY, NOV, add_lab, ask
from tests.prices import add_prices
from tests.record import S, add_instance, change
from tests.usage import add_segment, post_all

NANO = 3_600_000_000  # a dollar in 1,000 s
AT = NOV + DAY


def launch(conn, at_us=AT, **columns):
    """Write an instance that is asked for at *at_us*."""
    values = {
        "actual": "requested",
        "created_us": at_us,
        "allocated_us": None,
        "ready_us": None,
        "nano_usd_per_hour": NANO,
    }
    return add_instance(conn, **{**values, **columns})


def begin(conn, key, ready_us):
    """Let an instance be ready, as supervisor and meter write it."""
    change(conn, key, actual="running", ready_us=ready_us)
    add_segment(conn, key, ready_us, None, boot_id=f"boot-{key}")


def end(conn, key, at_us):
    """Let a stop be accepted and the instance be gone, and post its use."""
    change(conn, key, actual="stopped", wanted="stopped", stop_accepted_us=at_us, gone_us=at_us)
    conn.execute(
        segment.update().where(segment.c.instance_id == key).values(end_us=at_us, seen_us=at_us)
    )
    post_all(conn, at_us)


def limit(conn, amount, **more):
    """Set a budget of the lab and return its id."""
    return ask(conn, "budget.add", NOV, customer="org/lab", limit=amount, **more)["id"]


def look_at(conn, key) -> Any:
    return holds.find_hold(conn, key)


def asked(conn):
    """Return what was asked of the supervisor."""
    rows = conn.execute(select(request.c.kind, request.c.reason).order_by(request.c.id))
    return [tuple(row) for row in rows]


def test_money_lasts_no_longer_than_it_is_priced():
    for nano in (0, 1, 41_000_000, NANO, 10**12 + 7):
        for micro in (0, 1, 999, 10**6, 10**9 + 1):
            seconds = seconds_for(micro, nano, 10**6)
            assert price_of(seconds, nano) <= micro or nano == 0
            if 0 < seconds < 10**6:
                assert price_of(seconds + 1, nano) > micro
    assert seconds_for(-1, 1, 10) == 0


def test_a_launch_is_held_once_and_refused_where_the_budget_has_less(database):
    with database.write() as conn:
        add_lab(conn, kind="private")
        limit(conn, "1")
        key = launch(conn)
        first = holds.ask(conn, key, AT)
        assert first.seconds == launch_seconds(0) == 660
        assert holds.ask(conn, key, AT + S) == first
        second = launch(conn)
        with pytest.raises(OverBudget, match=r"of the budget of customer .* \$0\.33"):
            holds.ask(conn, second, AT)
        assert conn.execute(select(hold.c.instance_id)).scalars().all() == [key]
        with pytest.raises(NotFound):
            holds.ask(conn, "i-none", AT)


def test_without_a_budget_nothing_is_refused_and_the_money_is_still_held(database):
    with database.write() as conn:
        key = launch(conn, owner="carol")
        kept = holds.ask(conn, key, AT)
        assert (kept.customer, kept.state) == ("user/carol", "held")


def test_a_non_profit_is_held_to_its_credit_and_to_the_instant_it_ends(database):
    with database.write() as conn:
        add_lab(conn)
        key = launch(conn)
        with pytest.raises(OverBudget, match="credit"):
            holds.ask(conn, key, AT)
        grant = {"customer": "org/lab", "source": "AWS", "amount": "100", "start": "2026-11-01"}
        ask(conn, "grant.add", NOV, **grant, end="2026-11-02T00:20", cloud="aws")
        with pytest.raises(OverBudget, match="credit"):  # of another cloud
            holds.ask(conn, key, AT)
        ask(conn, "grant.add", NOV, **grant, end="2026-11-02T00:20")
        holds.ask(conn, key, AT)
        begin(conn, key, AT)
        keep(conn, key, AT + S)
        # The grant ends in 20 minutes; so does the hold, less a minute for what began in it.
        kept = look_at(conn, key)
        assert kept.state == "warned"
        assert 1140 <= kept.seconds <= 1200
        assert kept.stop_us == AT + (kept.seconds - STOP_P99_S) * S


def test_warned_while_the_grace_is_still_paid_then_stopped_before_the_limit(database):
    with database.write() as conn:
        add_lab(conn, kind="private")
        budget_id = limit(conn, "3")  # 3,000 s
        key = launch(conn)
        holds.ask(conn, key, AT)
        begin(conn, key, AT)
        warned_us = stopped_us = None
        for second in range(0, 3600, 30):
            at_us = AT + second * S
            keep(conn, key, at_us)
            if warned_us is None and look_at(conn, key).state == "warned":
                warned_us = at_us
            if asked(conn):
                stopped_us = at_us
                break
        assert warned_us is not None and stopped_us is not None
        assert stopped_us - warned_us >= GRACE_S * S
        ((kind, reason),) = asked(conn)
        assert (kind, "$3.00" in reason) == ("stop", True)
        said = [row.message for row in list_progress(conn, key)]
        assert any("Save your work" in each for each in said)
        end(conn, key, stopped_us + STOP_P99_S * S)
        keep(conn, key, stopped_us + 2 * DAY)
        standing = stand(conn, get_budget(conn, budget_id), stopped_us)
        assert standing.held_micro == 0 and 2_800_000 < standing.spent_micro <= 3_000_000
        assert [each["percent"] for each in list_alerts(conn, budget_id)] == [100, 95, 80, 50]
        told = [(row.kind, row.subject) for row in list_notices(conn, "alice")]
        assert ("budget", f"The money for {key} ends") in told
        assert ("budget", "Budget at 100 %") in told
        assert list_kept(conn) == []


def test_a_raised_budget_takes_the_warning_back(database):
    with database.write() as conn:
        add_lab(conn, kind="private")
        budget_id = limit(conn, "1")
        key = launch(conn)
        holds.ask(conn, key, AT)
        begin(conn, key, AT)
        keep(conn, key, AT + S)
        assert look_at(conn, key).state == "warned"
        ask(conn, "budget.change", AT + 2 * S, id=budget_id, limit="100")
        keep(conn, key, AT + 3 * S)
        kept = look_at(conn, key)
        assert (kept.state, kept.stop_us, kept.seconds) == ("held", None, 3 + AHEAD_S)


def test_where_the_budget_says_so_it_is_made_small_and_stopped_only_after_that(database):
    with database.write() as conn:
        add_prices(conn)
        add_lab(conn, kind="private")
        limit(conn, "2", on_end="degrade")
        key = launch(conn, cpu="L")
        holds.ask(conn, key, AT)
        begin(conn, key, AT)
        second = 0
        while not asked(conn):
            second += 30
            keep(conn, key, AT + second * S)
        assert [kind for kind, _ in asked(conn)] == ["resize"]
        assert look_at(conn, key).state == "degraded"
        change(conn, key, cpu="S", nano_usd_per_hour=12_000_000)
        for later in range(second, second + 3 * 3600, 60):
            keep(conn, key, AT + later * S)
        assert [kind for kind, _ in asked(conn)] == ["resize"]  # an hour is kept back, and more
        change(conn, key, nano_usd_per_hour=NANO)  # as if it could not be made small
        for later in range(second + 3 * 3600, second + 4 * 3600, 60):
            keep(conn, key, AT + later * S)
        assert [kind for kind, _ in asked(conn)] == ["resize", "stop"]


def test_a_disk_that_bills_after_the_stop_is_held_for(database):
    with database.write() as conn:
        add_prices(conn)
        ask(conn, "plan.add", 1, name="stored", storage="yes")
        add_lab(conn, at_us=2, kind="private", plan="stored")
        key = launch(conn)
        kept = holds.ask(conn, key, AT)
        assert kept.disk_micro == price_of(24 * 3600, 1_000_000)


@pytest.mark.parametrize("seed", range(3))
def test_posted_and_held_never_pass_a_limit_at_any_time(database, seed):
    rng = random.Random(seed)
    with database.write() as conn:
        add_lab(conn, kind="private")
        ask(conn, "member.add", 2, customer="org/lab", user="bob", project="p2")
        limits = [
            limit(conn, f"{rng.randint(1, 9)}.5"),
            limit(conn, "2", user="alice"),
            limit(conn, "3", project="p2", period="window", end="2027-01-01"),
        ]
    live: dict[str, int | None] = {}
    at_us = AT
    for _ in range(60):
        at_us += rng.randint(1, 400) * S
        with database.write() as conn:
            if rng.random() < 0.4:
                nano = rng.choice((NANO, NANO // 3, 7 * NANO // 2))
                owner = rng.choice(("alice", "bob"))
                key = launch(conn, at_us, owner=owner, nano_usd_per_hour=nano)
                try:
                    holds.ask(conn, key, at_us)
                    live[key] = None
                except OverBudget:
                    change(conn, key, actual="stopped", wanted="stopped", stop_accepted_us=at_us)
            for key, ready_us in list(live.items()):
                if ready_us is None and rng.random() < 0.6:
                    begin(conn, key, at_us)
                    live[key] = at_us
                elif ready_us is not None and rng.random() < 0.1:
                    end(conn, key, at_us)
                    del live[key]
            for key in list_kept(conn):
                keep(conn, key, at_us)
                kept = look_at(conn, key)
                due_us = kept.stop_us
                if due_us is not None and due_us <= at_us + 400 * S and live.get(key):
                    # The keeper looks every few seconds, not only when this test does.
                    keep(conn, key, max(at_us, due_us))
                if look_at(conn, key).state == "stopped" and live.get(key):
                    end(conn, key, max(at_us, due_us or at_us) + rng.randint(0, STOP_P99_S) * S)
                    del live[key]
        with database.read() as conn:
            for each in limits:
                standing = stand(conn, get_budget(conn, each), at_us)
                assert standing.spent_micro + standing.held_micro <= standing.row.limit_micro
            assert all(get(conn, key) is not None for key in live)
    with database.read() as conn:
        assert conn.execute(select(line_item.c.id)).first() is not None


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"limit": "-1"}, BadInput, "no amount"),
    ({"limit": 10}, BadInput, "no amount"),
    ({"limit": 1.5}, BadInput, "float"),
    ({"period": "week"}, BadInput, "none of"),
    ({"on_end": "explode"}, BadInput, "none of"),
    ({"period": "window"}, BadInput, "needs an end"),
    ({"user": "alice", "project": "p1"}, BadInput, "not of both"),
    ({"start": "2026-12-01", "end": "2026-11-01"}, BadInput, "after start"),
    ({"customer": "org/none"}, NotFound, "no customer"),
    ({}, Conflict, "overlaps"),
    ({"start": "2027-01-01"}, Conflict, "overlaps"),
]


def test_a_wrong_budget_is_refused_by_name_and_changes_nothing(database):
    with database.write() as conn:
        add_lab(conn, kind="private")
        limit(conn, "5")
    for wrong, error, said in WRONG:
        with pytest.raises(error, match=said), database.write() as conn:
            ask(conn, "budget.add", NOV, **{"customer": "org/lab", "limit": "5", **wrong})
    with database.read() as conn:
        assert len(conn.execute(select(budget)).all()) == 1
