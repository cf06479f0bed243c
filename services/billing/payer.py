"""The lock on whoever pays: what a customer's lines share is read and changed under it."""

from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError

from nightingale_hub.tables.customers import customer
from nightingale_hub.terms import Customer, find_customer


def lock_customer(conn: Connection, pays: Customer, at_us: int) -> None:
    """Write *pays* down where it is not, and hold it until the transaction ends.

    Whatever is shared by a customer's lines (what is free, grants, budgets) is read under it.
    """
    if find_customer(conn, pays.id) is None:
        values = {"id": pays.id, "name": pays.id, "kind": pays.kind, "currency": pays.currency}
        try:
            with conn.begin_nested():
                conn.execute(insert(customer).values(**values, created_us=at_us))
        except IntegrityError:
            pass  # another writer wrote it down meanwhile
    # The same on both engines; PostgreSQL holds the row's lock from here on.
    conn.execute(update(customer).where(customer.c.id == pays.id).values(name=customer.c.name))
