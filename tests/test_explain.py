"""Any line is explained from its segment to its amount, and comes out the same again."""

import pytest
from sqlalchemy import insert, select

from nightingale_hub.errors import NotFound
from nightingale_hub.services.billing.desk.verbs import serve
from nightingale_hub.services.billing.desk.visit import Visit
from nightingale_hub.services.billing.explain import explain_line, list_changed
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.services.billing.posting import list_uncredited, post_credit
from nightingale_hub.tables.billing import line_item
from nightingale_hub.tables.customers import customer, customer_plan
from nightingale_hub.terms import Plan
from nightingale_hub.usage import note_fault
from tests.record import S
from tests.usage import add_usage, parse_time, post_all

T0 = parse_time("2026-11-23 10:00:00")


def test_a_line_is_explained_from_its_seconds_to_its_amount(database):
    with database.write() as conn:
        publish_plan(conn, Plan("dear", markup_ppm=100_000), 0)
        conn.execute(
            insert(customer).values(
                id="user/alice", name="a", kind="private", currency="USD", created_us=0
            )
        )
        conn.execute(insert(customer_plan).values(customer="user/alice", from_us=0, plan="dear"))
        add_usage(conn, T0, T0 + 3600 * S - 1, 45_000_000)
        post_all(conn)
        said = explain_line(conn, 1)
    assert (said["meter"], said["exact_us"], said["seconds"]) == ("ready", 3600 * S - 1, 3600)
    assert said["prices"] == [
        {"seconds": 3600, "nano_per_hour": 49_500_000, "product": 178_200_000_000}
    ]
    assert said["formula"] == "178200000000 / 3600000 micro-units, half to even"
    assert (said["amount_micro"], said["currency"]) == (49_500, "USD")
    assert said["plan"] == "dear from 1970-01-01 00:00:00 UTC"
    assert [(each["account"], each["amount_micro"]) for each in said["entries"]] == [
        ("accrued:user/alice", 49_500),
        ("unbilled:user/alice", -49_500),
    ]
    assert said["is_the_same_again"] is True
    assert said["leaf"] is not None, "its journal's hash stands in the log"


def test_a_credit_is_explained_and_no_second_is_credited_twice(database):
    with database.write() as conn:
        key = add_usage(conn, T0, T0 + 3600 * S, 3_600_000_000)
        for cause, start_s, end_s in (("host", 10, 20), ("host", 30, 40), ("mount", 15, 35)):
            note_fault(conn, key, cause, "provider", T0 + start_s * S, T0 + end_s * S)
        assert list_uncredited(conn) == [], "the use is posted first"
        post_all(conn)
        while found := list_uncredited(conn):
            assert post_credit(conn, found[0].id, found[0].fault_id, 1)
        rows = conn.execute(select(line_item).where(line_item.c.kind == "credit")).all()
        assert [(row.cause, row.seconds, row.amount_micro) for row in rows] == [
            ("host", 10, -10_000),
            ("mount", 15, -15_000),
            ("host", 5, -5_000),
        ]
        assert list_changed(conn) == []
        assert all(explain_line(conn, row.id)["is_the_same_again"] for row in rows)


def test_a_line_that_does_not_come_out_the_same_is_told(database):
    with database.write() as conn:
        add_usage(conn, T0, T0 + 3600 * S, 45_000_000)
        post_all(conn)
        row = conn.execute(select(line_item)).one()._asdict()
        wrong = row | {"id": 9, "idem_key": "segment:1:1", "amount_micro": row["amount_micro"] + 1}
        conn.execute(insert(line_item).values(wrong))
        assert list_changed(conn) == [9]
        assert explain_line(conn, 9)["is_the_same_again"] is False


def test_whose_line_it_is_not_may_not_know_that_it_exists(database):
    with database.write() as conn:
        add_usage(conn, T0, T0 + 3600 * S, 45_000_000)
        post_all(conn)
        mine = Visit(conn, "alice", False, T0, "us", 30)
        assert serve(mine, "line.explain", {"line": 1})["line"] == 1
        for who, is_admin, number in (("bob", False, 1), ("bob", False, 2), ("root", True, 2)):
            with pytest.raises(NotFound):
                serve(Visit(conn, who, is_admin, T0, "us", 30), "line.explain", {"line": number})
