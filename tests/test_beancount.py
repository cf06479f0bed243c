"""An independent oracle: beancount reads the journal as we export it, and finds it in balance."""

from beancount import loader
from beancount.core import realization
from sqlalchemy import insert, select

from nightingale_hub.services.billing.export import export_journal
from nightingale_hub.services.billing.ledger import fold_balances, reverse
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.services.billing.posting import list_uncredited, post_credit
from nightingale_hub.tables.billing import entry
from nightingale_hub.tables.customers import customer, customer_plan
from nightingale_hub.terms import Plan
from nightingale_hub.usage import note_fault
from tests.record import S
from tests.usage import add_usage, parse_time, post_all

T0 = parse_time("2026-11-23 10:00:00")


def fill(conn):
    publish_plan(conn, Plan("free", free_micro_per_month=10_000), 0)
    values = {"id": "user/bob", "name": "b", "kind": "private", "currency": "USD"}
    conn.execute(insert(customer).values(values | {"created_us": 0}))
    conn.execute(insert(customer_plan).values(customer="user/bob", from_us=0, plan="free"))
    for owner, nano in (("alice", 45_000_001), ("bob", 526_000_000), ('Ünal, "C."', 7)):
        key = add_usage(conn, T0, T0 + 3601 * S + 1, nano, owner)
        note_fault(conn, key, "host", "provider", T0 + 10 * S, T0 + 99 * S)
    post_all(conn)
    for row in list_uncredited(conn):
        post_credit(conn, row.id, row.fault_id, T0)
    reverse(conn, "segment:1", "wrong", T0)


def load(text):
    return loader.load_string(text)


def test_beancount_finds_the_exported_journal_in_balance_and_the_same_sums(database):
    with database.write() as conn:
        fill(conn)
        text, ours = export_journal(conn), fold_balances(conn)
    entries, errors, _ = load(text)
    assert errors == []
    theirs = {}
    for account in realization.iter_children(realization.realize(entries)):
        for position in account.balance:
            theirs[account.account] = int(position.units.number * 10**6)
    named = {
        line.split(" ; ")[1]: line.split()[2] for line in text.splitlines() if " open " in line
    }
    assert {name: theirs.get(named[name], 0) for name in ours} == ours


def test_beancount_finds_what_we_put_out_of_balance(database):
    with database.write() as conn:
        fill(conn)
        conn.execute(
            insert(entry).values(journal_id=1, account="a", amount_micro=1, currency="USD")
        )
        assert conn.execute(select(entry)).first() is not None
        text = export_journal(conn)
    _, errors, _ = load(text)
    assert any("does not balance" in str(error.message) for error in errors)
