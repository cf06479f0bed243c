"""The ledger sums to zero, takes each event once whoever posts it, and is never edited."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DatabaseError

from nightingale_hub.database import Database
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.services.billing.ledger import (
    Accounts,
    Entry,
    Journal,
    count_entries,
    find_fault,
    fold_balances,
    list_unbalanced,
    post,
    reverse,
)
from nightingale_hub.services.billing.posting import list_unrated, post_segments
from nightingale_hub.tables.billing import entry, journal, line_item
from tests.record import S
from tests.usage import add_usage, count_lines, post_all

ALICE = Accounts("user/alice")
AMOUNTS = st.integers(-(10**15), 10**15)


def two(amount, key="k", description="d"):
    return Journal(key, description, (Entry("a", amount), Entry("b", -amount)))


@given(st.lists(st.tuples(st.sampled_from("abc"), AMOUNTS, st.sampled_from(["USD", "EUR"]))))
def test_a_journal_may_be_posted_exactly_when_each_currency_sums_to_zero(parts):
    made = Journal("k", "d", tuple(Entry(*part) for part in parts))
    sums = {c: sum(amount for _, amount, of in parts if of == c) for c in ("USD", "EUR")}
    is_good = len(parts) >= 2 and not any(sums.values())
    assert (find_fault(made) is None) == is_good


@pytest.mark.parametrize(
    "wrong",
    [
        two(1, key=""),
        Journal("k", "d", ()),
        Journal("k", "d", (Entry("a", 1), Entry("b", 1))),
        Journal("k", "d", (Entry("a", 1), Entry("b", -1, "EUR"))),
        Journal("k", "d", (Entry("", 1), Entry("b", -1))),
        Journal("k", "d", (Entry("a", 0.5), Entry("b", -0.5))),  # type: ignore[arg-type]  # a float
        Journal("k", "d", (Entry("a", 1, "usd"), Entry("b", -1, "usd"))),
        two(2**63),
    ],
)
def test_what_does_not_balance_is_refused_and_changes_nothing(database, wrong):
    with pytest.raises(BadInput), database.write() as conn:
        post(conn, wrong, 1)
    with database.read() as conn:
        assert conn.execute(select(journal)).all() == []


def test_posting_again_is_nothing_new_and_posting_otherwise_a_conflict(database):
    with database.write() as conn:
        assert post(conn, two(5), 1)
        assert not post(conn, two(5), 2)
        for other in (two(6), two(5, description="e")):
            with pytest.raises(Conflict):
                post(conn, other, 4)
        assert (count_entries(conn), fold_balances(conn)) == (2, {"a": 5, "b": -5})
        assert list_unbalanced(conn) == []


def test_a_mistake_is_corrected_by_one_reversal(database):
    with database.write() as conn:
        post(conn, two(45_000), 1)
        assert reverse(conn, "k", "wrong rate", 2)
        assert not reverse(conn, "k", "wrong rate", 3)
        assert (fold_balances(conn), count_entries(conn)) == ({"a": 0, "b": 0}, 4)
        with pytest.raises(NotFound):
            reverse(conn, "no such", "x", 4)


def test_a_journal_that_does_not_balance_is_found(database):
    with database.write() as conn:
        post(conn, two(5), 1)
        conn.execute(
            insert(entry).values(journal_id=1, account="a", amount_micro=1, currency="USD")
        )
        assert list_unbalanced(conn) == ["k"]


@pytest.mark.parametrize("statement", [update(line_item).values(amount_micro=0), delete(line_item)])
def test_a_line_cannot_be_changed(database, statement):
    with database.write() as conn:
        add_usage(conn, 0, 10 * S, 45_000_000)
        post_all(conn)
    with pytest.raises(DatabaseError, match="append-only"), database.write() as conn:
        conn.execute(statement)


def test_a_segment_posted_with_another_amount_is_a_conflict(database):
    with database.write() as conn:
        add_usage(conn, 0, 10 * S, 45_000_000)
        (row,) = list_unrated(conn)
        dearer = row._replace(nano_usd_per_hour=90_000_000)
        assert post_segments(conn, [row], 1)
        assert not post_segments(conn, [row], 2)
        assert list_unrated(conn) == []
        with pytest.raises(Conflict):
            post_segments(conn, [dearer], 3)
        assert fold_balances(conn) == {ALICE.accrued: 125, ALICE.unbilled: -125}


def test_ten_writers_at_once_post_each_segment_once(database):
    segments = 20
    with database.write() as conn:
        for number in range(segments):
            add_usage(conn, 0, number * 100 * S, 45_000_000)
    with database.read() as conn:
        ended = list_unrated(conn)

    def post_everything(_):
        mine = Database(database.url)
        try:
            return sum(mine.transact(partial(post_segments, rows=[row], at_us=1)) for row in ended)
        finally:
            mine.dispose()

    with ThreadPoolExecutor(10) as pool:
        new = list(pool.map(post_everything, range(10)))
    assert sum(new) == segments
    with database.read() as conn:
        assert (count_lines(conn), count_entries(conn)) == (segments, 2 * segments)
        total = sum(1250 * number for number in range(segments))
        assert fold_balances(conn) == {ALICE.accrued: total, ALICE.unbilled: -total}
