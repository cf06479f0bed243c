"""Usage in, statement out: by hand, on both engines; and every total agrees with the ledger."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nightingale_hub.money import format_usd
from nightingale_hub.services.billing.ledger import (
    Accounts,
    Entry,
    Journal,
    fold_balances,
    post,
)
from nightingale_hub.services.billing.rating import count_seconds, rate
from nightingale_hub.services.billing.service import make
from nightingale_hub.services.billing.statement import make_statement, summarize_cost
from nightingale_hub.tables.billing import line_item
from tests.record import S, add_instance, change
from tests.serving import serving
from tests.usage import (
    SCENARIOS,
    add_segment,
    add_usage,
    load_scenario,
    parse_time,
    post_all,
)

HOUR = 3600 * S
T0 = parse_time("2026-11-23 10:00:00")
RATE = 45_000_000


@pytest.mark.parametrize("name", sorted(path.name for path in SCENARIOS.glob("*.txt")))
def test_a_statement_is_what_was_worked_out_by_hand(database, name):
    with database.write() as conn:
        owner, month, expected = load_scenario(conn, (SCENARIOS / name).read_text())
        post_all(conn)
        statement = make_statement(conn, owner, month, T0)
    lines = [
        f"{line['server_name']} {line['seconds']} s {format_usd(line['amount_micro'])}"
        for line in statement["lines"]
    ]
    assert [*lines, f"total {format_usd(statement['total_micro'])}"] == expected
    assert (statement["running_micro"], statement["pending"]) == (0, 0)


USAGE = st.tuples(st.integers(T0, T0 + 5 * HOUR), st.integers(0, 3 * HOUR), st.integers(0, 10**11))


@given(st.lists(USAGE, max_size=6), st.randoms(use_true_random=False))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_statement_sums_to_its_owners_balance_in_whatever_order_it_was_posted(
    database, parts, random
):
    owner = f"u{random.randrange(2**63)}-{len(parts)}"
    random.shuffle(parts)
    with database.write() as conn:
        for start_us, length_us, nano in parts:
            add_usage(conn, start_us, start_us + length_us, nano, owner)
        account = Accounts(f"user/{owner}").accrued
        before = fold_balances(conn).get(account, 0)
        assert (post_all(conn), post_all(conn)) == (len(parts), 0)
        lines = conn.execute(select(line_item).where(line_item.c.owner == owner)).all()
        statement = make_statement(conn, owner, "2026-11", T0)
        balances = fold_balances(conn)
    amounts = [rate(count_seconds(start, start + us), nano) for start, us, nano in parts]
    total = statement["total_micro"]
    assert total == sum(line.amount_micro for line in lines)
    assert balances.get(account, 0) == total
    assert total - before == sum(amounts)
    assert sum(balances.values()) == 0


def test_running_usage_costs_what_it_would_if_it_stopped_now(database):
    with database.write() as conn:
        key = add_usage(conn, T0, None, RATE)
        cost = summarize_cost(conn, "alice", T0 + HOUR)
        statement = make_statement(conn, "alice", "2026-11", T0 + HOUR)
    row = {
        "instance_id": key,
        "seconds": 3600,
        "amount_micro": 45_000,
        "nano_per_hour": RATE,
        "state": "running",
    }
    assert cost == {
        "currency": "USD",
        "month": "2026-11",
        "posted_micro": 0,
        "running_micro": 45_000,
        "held": {},
        "instances": [row],
    }
    assert (statement["running_micro"], statement["pending"]) == (45_000, 0)
    assert statement["total_micro"] == 0, "a total is of posted lines only"


def test_an_accepted_stop_ends_the_cost_before_the_meter_has_seen_it(database):
    with database.write() as conn:
        key = add_usage(conn, T0, None, RATE)
        change(conn, key, stop_accepted_us=T0 + HOUR)
        cost = summarize_cost(conn, "alice", T0 + 9 * HOUR)
        statement = make_statement(conn, "alice", "2026-11", T0 + 9 * HOUR)
    assert [each["state"] for each in cost["instances"]] == ["pending"]
    assert cost["running_micro"] == 45_000
    assert statement["pending"] == 1


def test_a_cost_goes_from_running_through_pending_to_posted_without_a_jump(database):
    states = []
    with database.write() as conn:
        key = add_instance(conn, nano_usd_per_hour=RATE)
        add_segment(conn, key, T0, T0 + HOUR, "first")
        post_all(conn)
        add_segment(conn, key, T0 + HOUR, T0 + 2 * HOUR, "second")
        for at_us in (T0 + 2 * HOUR - 1, T0 + 2 * HOUR):
            states.append(summarize_cost(conn, "alice", at_us))
        post_all(conn)
        states.append(summarize_cost(conn, "alice", T0 + 3 * HOUR))
    found = [[(each["state"], each["seconds"]) for each in cost["instances"]] for cost in states]
    assert found == [
        [("running", 3600), ("posted", 3600)],
        [("pending", 3600), ("posted", 3600)],
        [("posted", 3600), ("posted", 3600)],
    ]
    for cost in states:
        assert cost["posted_micro"] + cost["running_micro"] == 90_000


def test_what_runs_is_in_the_cost_whichever_month_it_began_in(database):
    with database.write() as conn:
        key = add_usage(conn, parse_time("2026-10-31 23:00:00"), None, RATE)
        add_usage(conn, parse_time("2026-10-01 00:00:00"), parse_time("2026-10-02 00:00:00"), RATE)
        post_all(conn)
        cost = summarize_cost(conn, "alice", parse_time("2026-11-01 01:00:00"))
        october = make_statement(conn, "alice", "2026-10", parse_time("2026-11-01 01:00:00"))
        november = make_statement(conn, "alice", "2026-11", parse_time("2026-11-01 01:00:00"))
    assert [each["instance_id"] for each in cost["instances"]] == [key]
    assert (cost["posted_micro"], cost["running_micro"]) == (0, 90_000)
    assert (october["running_micro"], november["running_micro"]) == (45_000, 45_000)


async def test_a_segment_that_cannot_be_posted_holds_back_no_other(database, caplog):
    with database.write() as conn:
        add_usage(conn, T0, T0 + HOUR, RATE)
        add_usage(conn, T0, T0 + HOUR, RATE, owner="bob")
        taken = Journal("segment:1", "not ours", (Entry("a", 1), Entry("b", -1)))
        post(conn, taken, T0)
    async with serving("billing", database, make) as (_, service):
        await service.loops[0].step()
    assert "segment 1 of" in caplog.text
    with database.read() as conn:
        assert make_statement(conn, "bob", "2026-11", T0)["total_micro"] == 45_000
        alice = make_statement(conn, "alice", "2026-11", T0 + HOUR)
    assert (alice["total_micro"], alice["pending"]) == (0, 1)


async def test_the_service_posts_what_ended_and_answers_the_console(database):
    with database.write() as conn:
        add_usage(conn, T0, T0 + HOUR, RATE, name="=cmd")
        add_usage(conn, T0, None, RATE, owner="bob")
    async with serving("billing", database, make) as (client, service):
        for _ in range(2):
            await service.loops[0].step()
        cost = (await client.get("cost", owner="alice", at_us=T0 + HOUR)).json()
        statement = (await client.get("statement", owner="alice", month="2026-11")).json()
        check = (await client.get("ledger/check")).json()
    assert cost["posted_micro"] == statement["total_micro"] == 45_000
    line = statement["lines"][0]
    assert (line["server_name"], line["size"]) == ("=cmd", "cpu M, gpu none, disk M")
    assert (line["start_us"], line["end_us"]) == (T0, T0 + HOUR)
    assert check == {
        "entries": 2,
        "sum_micro": 0,
        "accounts": {"accrued:user/alice": 45_000, "unbilled:user/alice": -45_000},
        "unbalanced": [],
    }


@pytest.mark.parametrize("path", ["cost", "statement", "ledger/check"])
@pytest.mark.parametrize("token", ["", "alice-token", "unknown"])
async def test_only_the_console_may_ask(database, path, token):
    async with serving("billing", database, make) as (client, _):
        answer = await client.get(path, token, owner="alice", month="2026-11")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("cost", {}),
        ("cost", {"owner": "a" * 256}),
        ("cost", {"owner": "a\u202eb"}),
        ("cost", {"owner": "alice", "at_us": "-1"}),
        ("cost", {"owner": "alice", "at_us": "1.5"}),
        ("cost", {"owner": "alice", "at_us": 2**63 - 1}),
        ("cost", {"owner": "alice", "at_us": parse_time("9999-12-31 00:00:00")}),
        ("statement", {"owner": "alice"}),
        ("statement", {"owner": "alice", "month": "2026-13"}),
        ("statement", {"owner": "alice", "month": "2026-1"}),
        ("statement", {"owner": "alice", "month": "9999-12"}),
        ("statement", {"owner": "alice", "month": "' OR 1=1"}),
    ],
)
async def test_bad_input_gets_a_clear_error(database, path, query):
    async with serving("billing", database, make) as (client, _):
        answer = await client.get(path, **query)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_input"
