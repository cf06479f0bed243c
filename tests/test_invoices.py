"""Invoices: numbers without a gap, frozen in the database, each line asked for once."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DatabaseError

from nightingale_hub.database import Database
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.services.billing.documents import sha256_hex
from nightingale_hub.services.billing.invoices import list_documents, mark_overdue
from nightingale_hub.services.billing.ledger import fold_balances, list_unbalanced
from nightingale_hub.tables.documents import document, document_line
from nightingale_hub.tables.log import log_leaf
from nightingale_hub.tables.metering import segment
from tests.desk import DAY, DEC, NOV, add_lab, ask
from tests.record import S
from tests.usage import add_usage, post_all

RATE = 3_600_000_000  # a dollar in 1,000 s
LAB = {"customer": "org/lab", "month": "2026-11"}


def use(conn, start_us, seconds, name="", owner="alice"):
    add_usage(conn, start_us, start_us + seconds * S, RATE, owner, name)
    post_all(conn, start_us)


def add_month(conn, seconds=1234):
    """Write a private lab with use in November."""
    add_lab(conn, kind="private")
    use(conn, NOV + DAY, seconds)


def get(conn, number):
    return conn.execute(select(document).where(document.c.number == number)).one()


def test_from_draft_to_paid_with_the_books_in_balance(database):
    with database.write() as conn:
        add_month(conn)
        draft = ask(conn, "invoice.draft", **LAB)
        assert (draft["number"], draft["total_minor"], draft["total_micro"]) == (
            "draft",
            123,
            1_234_000,
        )
        made = ask(conn, "invoice.finalise", **LAB)
        assert (made["number"], made["state"], made["due_us"]) == (
            "INV-000001",
            "final",
            DEC + 30 * DAY,
        )
        row = get(conn, "INV-000001")
        assert sha256_hex(row.pdf) == row.pdf_sha256 and row.pdf.startswith(b"%PDF-")
        assert fold_balances(conn) == {
            "accrued:org/lab": 0,
            "unbilled:org/lab": 0,
            "receivable:org/lab": 1_230_000,
            "revenue:org/lab": -1_230_000,
        }
        paid = ask(conn, "invoice.pay", number="INV-000001", reference="bank 7")
        assert paid["state"] == "paid"
        ask(conn, "invoice.pay", number="INV-000001", reference="bank 7")
        with pytest.raises(Conflict, match="is paid"):
            ask(conn, "invoice.pay", number="INV-000001", reference="bank 8")
        balances = fold_balances(conn)
        assert (balances["receivable:org/lab"], balances["cash"]) == (0, 1_230_000)
        assert list_unbalanced(conn) == []


def test_what_nobody_pays_in_time_is_overdue_and_may_be_taken_back_in_parts(database):
    with database.write() as conn:
        add_month(conn)
        ask(conn, "invoice.finalise", **LAB)
        assert mark_overdue(conn, DEC + 30 * DAY - 1) == []
        assert mark_overdue(conn, DEC + 30 * DAY) == ["INV-000001"]
        take = {"number": "INV-000001", "reason": "a slow disk"}
        note = ask(conn, "invoice.credit", amount="1.00", **take)
        assert (note["number"], note["corrects"], note["total_minor"]) == (
            "CN-000001",
            "INV-000001",
            100,
        )
        assert get(conn, "INV-000001").state == "overdue"
        for amount, said in (("0.24", r"at most 0\.23 USD"), ("0.001", "decimals"), ("0", "more")):
            with pytest.raises(BadInput, match=said):
                ask(conn, "invoice.credit", amount=amount, **take)
        ask(conn, "invoice.credit", **take)
        assert get(conn, "INV-000001").state == "credited"
        assert fold_balances(conn)["receivable:org/lab"] == 0
        with pytest.raises(Conflict, match="is credited"):
            ask(conn, "invoice.credit", **take)
        with pytest.raises(Conflict, match="is credited"):
            ask(conn, "invoice.pay", number="INV-000001", reference="x")


def test_late_use_is_on_the_next_invoice_and_no_line_is_on_two(database):
    with database.write() as conn:
        add_month(conn)
        ask(conn, "invoice.finalise", **LAB)
        use(conn, NOV + 3 * DAY, 500, "late")
        use(conn, DEC + DAY, 1000, "next")
        with pytest.raises(Conflict, match="INV-000001"):
            ask(conn, "invoice.finalise", **LAB)
        second = ask(conn, "invoice.finalise", DEC + 40 * DAY, **{**LAB, "month": "2026-12"})
        assert (second["number"], second["total_minor"]) == ("INV-000002", 150)
        lines = conn.execute(select(document_line.c.line_id)).scalars().all()
        assert len(lines) == len(set(lines)) == 3


def test_an_invoice_that_is_refused_uses_no_number(database):
    with database.write() as conn:
        add_month(conn)
        add_usage(conn, NOV + 2 * DAY, NOV + 2 * DAY + 9 * S, RATE, name="waits")
    refusals: list[tuple[type[Exception], str, dict[str, object]]] = [
        (Conflict, "1 pieces of use", {}),
        (BadInput, "is not over", {"at_us": DEC - 1}),
        (NotFound, "no customer", {"customer": "org/none"}),
        (BadInput, "is not like", {"month": "2026-13"}),
        (BadInput, "owes nothing", {"month": "2026-10"}),
    ]
    for error, said, more in refusals:
        with pytest.raises(error, match=said), database.write() as conn:
            ask(conn, "invoice.finalise", **{**LAB, **more})
    with database.write() as conn:
        post_all(conn, 2)
        assert ask(conn, "invoice.finalise", **LAB)["number"] == "INV-000001"


def test_a_non_profit_gets_no_invoice(database):
    with database.write() as conn:
        add_lab(conn)
        with pytest.raises(BadInput, match="non-profit"):
            ask(conn, "invoice.finalise", **LAB)


def test_credit_that_was_granted_is_not_asked_for(database):
    with database.write() as conn:
        add_month(conn, 2000)
        grant = {"customer": "org/lab", "source": "AWS", "amount": "0.5", "start": "2026-11-01"}
        ask(conn, "grant.add", NOV + 2 * DAY, end="2026-12-01", **grant)
        made = ask(conn, "invoice.finalise", **LAB)
        assert made["total_minor"] == 150
        # A grant given later changes nothing of what was asked for.
        more = ask(conn, "grant.add", DEC + DAY, end="2026-12-01", **{**grant, "amount": "9"})
        assert more["lines_changed"] == 0


def test_private_use_says_how_many_free_hours_it_paid_for(database):
    with database.write() as conn:
        ask(conn, "plan.add", 1, name="private", markup_percent=50)
        add_lab(conn, at_us=2, kind="private", plan="private")
        ask(conn, "customer.add", 2, id="org/ngo", name="NGO", kind="non_profit")
        ask(conn, "member.add", 2, customer="org/ngo", user="bob")
        at_us = NOV + DAY
        key = add_usage(conn, at_us, at_us + 1000 * S, RATE)
        conn.execute(update(segment).where(segment.c.instance_id == key).values(seen_us=at_us))
        use(conn, NOV + DAY, 5000, owner="bob")
        draft = ask(conn, "invoice.draft", **LAB)
        # $1.50 for $1.00 at list: the 50 cents pay for 500 s at a dollar in 1,000 s.
        assert (draft["total_minor"], draft["free_seconds"]) == (150, 500)


@pytest.mark.parametrize(
    "statement",
    [
        update(document).values(total_minor=0),
        update(document).values(pdf=b""),
        update(document).values(number="INV-9"),
        update(document).values(content="{}"),
        delete(document),
        delete(document_line),
        update(document_line).values(amount_micro=0),
    ],
)
def test_what_is_final_cannot_be_changed_even_in_the_database(database, statement):
    with database.write() as conn:
        add_month(conn)
        ask(conn, "invoice.finalise", **LAB)
    with pytest.raises(DatabaseError, match="frozen"), database.write() as conn:
        conn.execute(statement)


def test_the_log_holds_the_hash_of_each_document(database):
    with database.write() as conn:
        add_month(conn)
        ask(conn, "invoice.finalise", **LAB)
        payload = conn.execute(
            select(log_leaf.c.payload).where(log_leaf.c.kind == "invoice")
        ).scalar_one()
        row = get(conn, "INV-000001")
        said = json.loads(payload)
        assert (said["pdf_sha256"], said["issued_by"]) == (row.pdf_sha256, "root")
        assert said["content_sha256"] == sha256_hex(row.content.encode())


def test_writers_at_once_make_each_invoice_once_and_leave_no_gap(database):
    owners = [f"o{number}" for number in range(6)]
    with database.write() as conn:
        for owner in owners:
            use(conn, NOV + DAY, 100, owner=owner)

    def finalise_all(_):
        mine = Database(database.url)
        try:
            for owner in owners:
                wish: Any = {"customer": f"user/{owner}", "month": "2026-11"}
                with suppress(Conflict):  # another was first
                    mine.transact(partial(ask, verb="invoice.finalise", **wish))
        finally:
            mine.dispose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(finalise_all, range(4)))
    with database.read() as conn:
        numbers = sorted(each["number"] for each in list_documents(conn))
        assert numbers == [f"INV-{count:06d}" for count in range(1, len(owners) + 1)]
        assert list_unbalanced(conn) == []
