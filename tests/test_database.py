"""Six writers lose nothing, the ledger is append-only, and upgrades may race: on both engines."""

import multiprocessing
import os
import stat

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DatabaseError

from nightingale_hub.database import Database
from nightingale_hub.lease import StaleLease, check_lease, take_lease
from nightingale_hub.tables.base import service_lease
from nightingale_hub.tables.billing import entry, journal

WRITERS = 6
COMMITS = 40


def count_up(url, errors):
    try:
        db = Database(url)
        for _ in range(COMMITS):

            def work(conn):
                query = select(service_lease.c.epoch).with_for_update()
                seen = conn.execute(query).scalar_one()
                conn.execute(update(service_lease).values(epoch=seen + 1))

            db.transact(work)
        db.dispose()
    except BaseException as error:
        errors.put(repr(error))
        raise


def test_six_processes_that_write_at_once_lose_no_update(database):
    with database.write() as conn:
        conn.execute(insert(service_lease).values(service="x", epoch=0, holder="t", taken_us=0))
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    workers = [
        context.Process(target=count_up, args=(database.url, errors)) for _ in range(WRITERS)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert errors.empty(), errors.get()
    with database.read() as conn:
        assert conn.execute(select(service_lease.c.epoch)).scalar_one() == WRITERS * COMMITS


@pytest.mark.parametrize("statement", [update(entry).values(amount_micro=1), delete(entry)])
def test_a_posted_entry_cannot_be_changed(database, statement):
    with database.write() as conn:
        conn.execute(
            insert(journal).values(id=1, idem_key="k", payload_sha256="", at_us=0, description="")
        )
        conn.execute(
            insert(entry).values(journal_id=1, account="a", amount_micro=0, currency="USD")
        )
    with pytest.raises(DatabaseError, match="append-only"), database.write() as conn:
        conn.execute(statement)


def upgrade(url):
    db = Database(url)
    db.upgrade()
    db.dispose()


def test_four_upgrades_at_once_end_in_one_schema(empty_database):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=upgrade, args=(empty_database.url,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    with empty_database.read() as conn:
        assert conn.execute(select(journal)).all() == []


def test_nobody_else_can_read_a_sqlite_file_whoever_makes_it_first(tmp_path):
    before = os.umask(0o022)
    db = Database(f"sqlite:///{tmp_path / 'new.sqlite'}")
    try:
        db.upgrade()
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    finally:
        db.dispose()
        os.umask(before)
    assert set(modes) == {"new.sqlite", "new.sqlite-shm", "new.sqlite-wal"}
    assert set(modes.values()) == {0o600}


def test_a_taken_over_service_can_no_longer_write(database):
    with database.write() as conn:
        first = take_lease(conn, "billing", "one", 1)
        check_lease(conn, "billing", first)
        second = take_lease(conn, "billing", "two", 2)
    assert second == first + 1
    with pytest.raises(StaleLease), database.write() as conn:
        check_lease(conn, "billing", first)
