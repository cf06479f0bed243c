"""Grants pay for posted lines: exactly, in one order whatever came first, each journal balanced."""

import json
import random
from typing import Any

import pytest
from sqlalchemy import func, select

from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.services.billing.burning import burn_grants, list_unburned
from nightingale_hub.services.billing.grants import list_grants
from nightingale_hub.services.billing.ledger import (
    fold_balances,
    list_unbalanced,
    list_wrong_balances,
)
from nightingale_hub.services.billing.posting import list_unrated, post_segments
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.credit import burned, credit_grant
from nightingale_hub.tables.log import log_leaf
from tests.desk import DAY, NOV, add_lab, ask
from tests.record import S
from tests.usage import add_usage, post_all

H = 3600 * S
RATE = 3_600_000_000  # a dollar in 1,000 s
GRANT = {
    "customer": "org/lab",
    "source": "AWS Open Data",
    "amount": "1",
    "start": "2026-11-01",
    "end": "2026-11-02",
}


class Rollback(Exception):
    """Ends a transaction that is to leave nothing."""


def state(conn):
    """Return what each grant pays of each start of use, and the balances that matter."""
    rows = conn.execute(
        select(line_item.c.start_us, credit_grant.c.source, burned.c.amount_micro)
        .join(burned, burned.c.line_id == line_item.c.id)
        .join(credit_grant, credit_grant.c.id == burned.c.grant_id)
        .order_by(line_item.c.start_us, credit_grant.c.source)
    )
    paid = [tuple(row) for row in rows]
    names = {row.id: row.source for row in conn.execute(select(credit_grant))}
    balances = {
        f"grant:{names[account.removeprefix('grant:')]}" if "grant:g-" in account else account: left
        for account, left in fold_balances(conn).items()
    }
    return paid, balances


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_arrival_ends_in_the_same_payments_and_balances(database, seed):
    rng = random.Random(seed)
    begins = rng.sample(range(0, 40, 2), 8)
    spans = [(NOV + begin * H, NOV + begin * H + rng.randint(1, 9000) * S) for begin in begins]
    grants = [
        {
            **GRANT,
            "source": f"g{number}",
            "amount": str(rng.randint(1, 9)),
            "end": f"2026-11-{rng.randint(2, 4):02d}",
            "priority": rng.randint(1, 2),
            **rng.choice(({}, {"cloud": "local"}, {"project": "p1"}, {"cloud": "aws"})),
        }
        for number in range(4)
    ]
    ends = []
    for _ in range(3):
        with pytest.raises(Rollback), database.write() as conn:
            add_lab(conn)
            events: list[Any] = [("use", each) for each in spans] + [
                ("grant", each) for each in grants
            ]
            rng.shuffle(events)
            for at_us, (kind, what) in enumerate(events, start=NOV + 9 * DAY):
                if kind == "grant":
                    ask(conn, "grant.add", at_us, **what)
                else:
                    key = add_usage(conn, what[0], what[1], RATE, name=f"s{what[0]}")
                    (row,) = (each for each in list_unrated(conn) if each.instance_id == key)
                    post_segments(conn, [row], at_us)
                if rng.random() < 0.6:
                    burn_grants(conn, "org/lab", at_us)
            burn_grants(conn, "org/lab", NOV + 10 * DAY)
            assert burn_grants(conn, "org/lab", NOV + 10 * DAY) == 0
            assert list_unburned(conn) == list_unbalanced(conn) == list_wrong_balances(conn) == []
            for each in list_grants(conn):
                account = f"grant:{each['id']}"
                assert each["left_micro"] == fold_balances(conn)[account] >= 0
            ends.append(state(conn))
            raise Rollback
    # Which of two equal grants was given first decides between them: compare the sums there.
    assert [sum(amount for _, _, amount in paid) for paid, _ in ends] == [
        sum(amount for _, _, amount in ends[0][0])
    ] * 3


def test_late_use_takes_its_own_place_and_the_ledger_says_how(database):
    with database.write() as conn:
        add_lab(conn)
        ask(conn, "grant.add", NOV, **GRANT)
        add_usage(conn, NOV + 2 * H, NOV + 2 * H + 800 * S, RATE)
        post_all(conn, 1)
        burn_grants(conn, "org/lab", NOV + DAY)
        assert [row[2] for row in state(conn)[0]] == [800_000]
        add_usage(conn, NOV + H, NOV + H + 600 * S, RATE, name="late")
        post_all(conn, 2)
        assert burn_grants(conn, "org/lab", NOV + 5 * DAY) == 2
        paid, balances = state(conn)
        assert [row[2] for row in paid] == [600_000, 400_000]
        assert balances == {
            "accrued:org/lab": 400_000,
            "unbilled:org/lab": -400_000,
            "given:AWS Open Data": -1_000_000,
            "grant:AWS Open Data": 0,
            "program_expense:org/lab": 1_000_000,
        }
        assert list_unbalanced(conn) == []


def test_a_grant_given_afterwards_pays_for_what_was_used_in_its_window(database):
    with database.write() as conn:
        add_lab(conn)
        add_usage(conn, NOV + H, NOV + H + 600 * S, RATE)
        post_all(conn, 1)
        burn_grants(conn, "org/lab", NOV + DAY)
        assert ask(conn, "grant.add", NOV + 5 * DAY, **GRANT)["lines_changed"] == 1
        assert [row[2] for row in state(conn)[0]] == [600_000]


def test_a_provider_credit_pays_no_line_and_stands_apart(database):
    with database.write() as conn:
        add_lab(conn)
        provider = {**GRANT, "kind": "provider", "cloud": "aws"}
        del provider["customer"]
        for wrong in ({"cloud": None}, {"region": "us"}):
            body = {k: v for k, v in {**provider, **wrong}.items() if v is not None}
            with pytest.raises(BadInput, match="name that cloud alone"):
                ask(conn, "grant.add", NOV, **body)
        credit = ask(conn, "grant.add", NOV, **provider)["id"]
        add_usage(conn, NOV + H, NOV + H + 600 * S, RATE)
        post_all(conn, 1)
        assert burn_grants(conn, "org/lab", NOV + DAY) == 0
        assert fold_balances(conn)[f"provider_credit:{credit}"] == 1_000_000
        assert f"grant:{credit}" not in fold_balances(conn)


def test_every_action_on_money_is_in_the_log(database):
    with database.write() as conn:
        add_lab(conn)
        ask(conn, "grant.add", NOV, **GRANT)
        rows = conn.execute(select(log_leaf.c.kind, log_leaf.c.payload)).all()
    kinds = [kind for kind, _ in rows]
    assert {"customer", "member", "grant"} <= set(kinds)
    (given,) = (json.loads(payload) for kind, payload in rows if kind == "grant")
    assert (given["by"], given["amount_micro"]) == ("root", 1_000_000)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"amount": "-1"}, BadInput, "no amount"),
    ({"amount": "0"}, BadInput, "more than nothing"),
    ({"amount": 1.5}, BadInput, "float"),
    ({"amount": "1e3"}, BadInput, "no amount"),
    ({"amount": "1.0000001"}, BadInput, "at most six"),
    ({"amount": "9999999999"}, BadInput, "out of range"),
    ({"amount": True}, BadInput, "no amount"),
    ({"currency": "XXX"}, BadInput, "none of"),
    ({"currency": "EUR"}, BadInput, "billed in USD"),
    ({"end": "2026-10-01"}, BadInput, "must lie after"),
    ({"end": "soon"}, BadInput, "no UTC date"),
    ({"customer": "org/other"}, NotFound, "no customer"),
    ({"priority": -1}, BadInput, "whole number"),
    ({"source": "a\nb"}, BadInput, "one line"),
    ({"cloud": "a b"}, BadInput, "letters, digits"),
    ({"amuont": "1"}, BadInput, "unknown field 'amuont'"),
]


def test_a_wrong_grant_is_refused_by_name_and_changes_nothing(database):
    with database.write() as conn:
        add_lab(conn)
    for wrong, error, said in WRONG:
        with pytest.raises(error, match=said), database.write() as conn:
            ask(conn, "grant.add", NOV, **{**GRANT, **wrong})
    with database.read() as conn:
        assert conn.execute(select(func.count()).select_from(credit_grant)).scalar_one() == 0
        assert fold_balances(conn) == {}


def test_another_customer_does_not_exist_for_who_does_not_manage_it(database):
    with database.write() as conn:
        add_lab(conn)
        ask(conn, "grant.add", NOV, **GRANT)
        for verb in ("grant.list", "budget.list", "invoice.list", "member.list"):
            for who in ("mallory", "alice"):  # alice is a member, and manages nothing
                with pytest.raises(NotFound, match="yours"):
                    ask(conn, verb, NOV, who, False, customer="org/lab")
        assert ask(conn, "grant.list", NOV, "alice", False)["grants"] == []
        ask(conn, "member.add", NOV, customer="org/lab", user="bob", role="manager")
        (seen,) = ask(conn, "grant.list", NOV, "bob", False, customer="org/lab")["grants"]
        assert seen["left_micro"] == 1_000_000
