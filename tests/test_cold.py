"""Old months leave the index for Parquet: every question has one answer, before, between, after."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update
from traitlets import TraitError

from nightingale_hub.clock import US_PER_S, month_bounds_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.lease import take_lease
from nightingale_hub.proof.verify import verify_file
from nightingale_hub.service import Context
from nightingale_hub.services.audit import cold, search
from nightingale_hub.services.audit.archive import Archive
from nightingale_hub.services.audit.bundle import export_bundle
from nightingale_hub.services.audit.cold import Mover, Store, find_hot_since
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.index import Index
from nightingale_hub.services.audit.log import Log, LogSigner
from nightingale_hub.services.audit.projects import list_memberships
from nightingale_hub.services.audit.rebuild import rebuild
from nightingale_hub.services.audit.retention import Keeper, drop_file, find_kept_since
from nightingale_hub.services.audit.search import Filters, Membership, parse_cursor
from nightingale_hub.services.audit.segments import Segments, list_files
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_batch, audit_event, audit_part
from nightingale_hub.tables.credit import member
from nightingale_hub.tables.customers import customer
from nightingale_hub.tables.log import log_leaf
from tests.audit import AT_US, add_instance, audit_service, make_line

DAY_US = 86_400 * US_PER_S
NOW_US = AT_US + 150 * DAY_US
AGES = (0, 0, 35, 70, 70, 120)  # in days before AT_US
ACTS = ("open", "read", "denied")
PATHS = ("CT/1.dcm", "CT/2.dcm", "CT/é_%.dcm", "x'); DROP TABLE part; --", "a/<img onerror>")


@pytest.fixture
async def world(database, tmp_path):
    """What two people read in five months, hot; a mover far enough in the future; the questions."""
    async with audit_service(database, tmp_path / "state") as audit:
        for owner in ("alice", "bob"):
            sender = add_instance(database, owner)
            lines = [
                make_line(
                    seq, owner=owner, ts=AT_US - age * DAY_US + seq % 3, act=act, path=path,
                    len=seq, pid=7 + seq % 2, exe="/usr/bin/python3" if seq % 5 else "/usr/bin/cp",
                )
                for seq, (age, act, path) in enumerate(
                    ((age, act, path) for age in AGES for act in ACTS for path in PATHS), 1
                )
            ]  # fmt: skip
            await audit.send(sender, 1, lines)
            await audit.wait_indexed(sender, len(lines))
    yield World(database, tmp_path / "state", sender.instance_id)


class World:
    """The database, the store and the clocks of one test."""

    def __init__(self, database, state_dir, instance_id, **given):
        self.database, self.instance_id = database, instance_id
        self.settings = NightingaleHub(state_dir=str(state_dir), db_url=database.url, **given)
        epoch = database.transact(lambda conn: take_lease(conn, "audit", "test", AT_US))
        self.context = Context("audit", self.settings, database, epoch)
        self.store = Store(self.settings)
        self.history = History(Archive(self.store))
        self.segments = self.settings.state_path / "audit" / "segments"

    def mover(self, at_us=NOW_US):
        return Mover(self.context, self.store, lambda: at_us)

    def ask(self, work):
        with self.database.read() as conn:
            return work(self.history, conn)

    def answers(self):
        """Everything that anybody may ask, page by page."""

        def gather(history, conn):
            found = []
            for filters in list_filters(self.instance_id):
                for limit in (50, 1000):
                    pages, before = [], None
                    while True:
                        rows, following = history.list_events(conn, filters, limit, before)
                        pages += rows
                        if following is None:
                            break
                        before = parse_cursor(following)
                    found.append(pages)
                files, after = [], None
                while page := history.list_files(conn, filters, 3, after):
                    files += page
                    after = (page[-1]["dataset"], page[-1]["path"])
                found += [files, history.list_readers(conn, filters)]
                found += [history.summarise(conn, filters), history.list_record(conn, filters)]
            return found

        return self.ask(gather)

    def count(self, table):
        with self.database.read() as conn:
            return conn.execute(select(func.count()).select_from(table)).scalar_one()

    def months(self):
        query = "SELECT relname FROM pg_class WHERE relname ~ '^audit_event_[0-9]{4}_[0-9]{2}$'"
        with self.database.read() as conn:
            return [row[0] for row in conn.exec_driver_sql(query)]

    def parts(self):
        with self.database.read() as conn:
            return conn.execute(select(audit_part).order_by(audit_part.c.since_us)).all()


def list_filters(instance_id):
    since_us = AT_US - 80 * DAY_US
    return [
        Filters(),
        Filters(owner="alice"),
        Filters(owner="nobody"),
        Filters(dataset="dicom", path=PATHS[3]),
        Filters(path="CT/*", since_us=since_us),
        Filters(path="CT/é_*"),
        Filters(instance=instance_id, pid=7),
        Filters(executable="/usr/bin/cp", until_us=since_us + 20 * DAY_US),
        Filters(owner="' OR 1=1 --"),
        Filters(project=()),
        Filters(project=(Membership("bob", since_us, None), Membership("alice", 0, since_us))),
    ]


async def test_every_question_has_the_same_answer_hot_cold_and_mixed(world):
    before = world.answers()
    rows = world.count(audit_event)
    await world.mover(AT_US).step()
    some = world.count(audit_event)
    assert 0 < some < rows and len(world.parts()) == 1, "by month; this one and three more stay"
    assert world.answers() == before
    await world.mover().step()
    assert world.count(audit_event) == 0
    assert sum(part.rows for part in world.parts()) == rows
    assert world.answers() == before


async def test_a_part_is_in_the_log_with_the_hash_of_its_file(world):
    await world.mover().step()
    with world.database.read() as conn:
        said = conn.execute(select(log_leaf.c.payload).where(log_leaf.c.kind == "cold_part"))
        leaves = {each["name"]: each["sha256"] for each in map(json.loads, said.scalars())}
    folder = world.settings.state_path / "audit" / "cold"
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*.parquet")}
    assert files.keys() == leaves.keys() and len(files) == 4
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == leaves[name]
        assert path.stat().st_mode & 0o077 == 0


async def test_a_file_that_is_not_what_was_written_leaves_its_rows_where_they_are(
    world, monkeypatch
):
    before, rows = world.answers(), world.count(audit_event)
    put = world.store.put
    monkeypatch.setattr(world.store, "put", lambda name, data: put(name, data[:-40] + bytes(40)))
    with pytest.raises(OSError, match="is not what was written"):
        await world.mover().step()
    assert world.count(audit_event) == rows and world.answers() == before
    monkeypatch.undo()
    await world.mover().step()
    assert world.count(audit_event) == 0 and world.answers() == before
    assert {part.state for part in world.parts()} == {"cold"}


async def test_a_mover_that_dies_before_the_rows_leave_is_followed_by_one_that_cleans_up(
    world, monkeypatch
):
    before = world.answers()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Mover, "_switch", die)
    with pytest.raises(KeyboardInterrupt):
        await world.mover().step()
    [left] = world.parts()
    assert left.state == "writing" and world.answers() == before
    monkeypatch.undo()
    await world.mover().clean()
    assert world.parts() == []
    assert not list((world.settings.state_path / "audit" / "cold").rglob("*.parquet"))


async def test_lines_that_come_while_their_time_is_moved_are_moved_too(world, monkeypatch):
    late = AT_US - 120 * DAY_US
    write = cold.write

    def write_late(table):
        monkeypatch.setattr(cold, "write", write)
        with world.database.write() as conn:
            row = conn.execute(
                select(audit_event).where(audit_event.c.at_us.between(late, late + 2)).limit(1)
            ).one()
            conn.execute(insert(audit_event).values({**row._mapping, "seq": 10_000}))
        return write(table)

    rows = world.count(audit_event)
    monkeypatch.setattr(cold, "write", write_late)
    await world.mover().step()
    assert world.count(audit_event) == 0
    assert sum(part.rows for part in world.parts() if part.state == "cold") == rows + 1
    assert (
        len(world.ask(lambda history, conn: history.list_events(conn, Filters(), 1000, None)[0]))
        == rows + 1
    )


async def test_what_moves_while_it_is_asked_for_is_neither_lost_nor_doubled(world, monkeypatch):
    if world.database.dialect == "sqlite":
        pytest.skip("a read transaction of SQLite sees one state of both")
    before = world.answers()
    list_rows = search.list_rows
    moved: list[int] = []

    def list_and_move(conn, *given):
        found = list_rows(conn, *given)
        if not moved:
            moved.append(1)
            with world.database.write() as other:
                span = cold.find_span(other, NOW_US)
                assert span is not None
                since_us, until_us = span
            part = None
            with world.database.write() as other:
                part = world.mover()._note(other, since_us, until_us)
                table = cold.load(other, since_us, until_us)
            data = cold.write(table)
            world.store.put(part.name, data)
            with world.database.write() as other:
                world.mover()._switch(other, part, table.num_rows, len(data), "0")
        return found

    monkeypatch.setattr(search, "list_rows", list_and_move)
    assert world.answers() == before and moved


async def test_large_months_are_moved_in_parts(world, monkeypatch):
    before = world.answers()
    monkeypatch.setattr(cold, "PART_ROWS", 10)
    monkeypatch.setattr(cold, "ROWS_AT_ONCE", 3)
    await world.mover().step()
    assert len(world.parts()) > 10 and world.count(audit_event) == 0
    assert world.answers() == before


async def test_a_month_that_somebody_still_reads_is_dropped_by_a_later_move(world):
    if world.database.dialect != "postgresql":
        pytest.skip("SQLite has no partitions")
    assert world.months()
    with world.database.read() as conn:
        conn.execute(select(func.count()).select_from(audit_event))  # holds it until the end
        await world.mover().step()
        assert world.count(audit_event) == 0
        assert world.months()
    await world.mover().step()
    assert world.months() == []


async def test_an_object_store_holds_cold_months(database, world, tmp_path):
    before = world.answers()
    there = World(
        database, tmp_path / "state", world.instance_id, audit_cold=f"memory://{tmp_path.name}/cold"
    )
    await there.mover().step()
    assert there.count(audit_event) == 0 and len(there.parts()) == 4
    assert not (tmp_path / "state" / "audit" / "cold").exists()
    assert there.answers() == before


async def test_a_part_that_cannot_be_read_is_an_error_and_no_shorter_answer(world):
    await world.mover().step()
    world.store.remove(world.parts()[0].name)
    with pytest.raises(Unavailable, match="old reads cannot be read now"):
        world.answers()


async def test_a_project_is_what_its_members_read_while_they_were(world):
    cut = AT_US - 60 * DAY_US
    with world.database.write() as conn:
        conn.execute(
            insert(customer),
            [make_customer("uni"), make_customer("lab")],
        )
        conn.execute(
            insert(member),
            [
                {"customer": "uni", "owner": "alice", "from_us": 0, "until_us": cut,
                 "project": "heart", "role": "member"},
                {"customer": "lab", "owner": "bob", "from_us": cut, "until_us": None,
                 "project": "heart", "role": "member"},
            ],
        )  # fmt: skip
        both = list_memberships(conn, "heart")
        one = list_memberships(conn, "lab/heart")
        assert list_memberships(conn, "uni/lung") == list_memberships(conn, "") == ()
    assert {each.owner for each in both} == {"alice", "bob"} and [o.owner for o in one] == ["bob"]
    await world.mover(AT_US).step()
    rows = world.ask(
        lambda history, conn: history.list_events(conn, Filters(project=both), 1000, None)[0]
    )
    assert {(row["owner"], row["at_us"] < cut) for row in rows} == {("alice", True), ("bob", False)}


def make_customer(name):
    columns = {c.name: None for c in customer.c if not c.nullable and c.server_default is None}
    values = {column: 0 if "INT" in str(customer.c[column].type) else "" for column in columns}
    return {**values, "id": name, "kind": "private", "currency": "USD"}


async def test_a_rebuild_after_a_move_has_each_event_once(world, tmp_path):
    before = world.answers()
    await world.mover().step()
    names = [part.name for part in world.parts()]
    world.database.transact(lambda conn: rebuild(conn, world.segments))
    await world.mover(AT_US - 300 * DAY_US).clean()
    assert world.parts() == [] and not any(Path(world.store.locate(n)).exists() for n in names)
    await Index(world.context, Segments(world.segments, world.context.epoch)).step()
    # Streams are numbered anew, and of two reads of one instant either may come first.
    assert [in_order(each) for each in world.answers()] == [in_order(each) for each in before]


def in_order(answer):
    if not isinstance(answer, list):
        return answer
    return sorted(answer, key=lambda row: (row.get("stream_id", ""), row.get("seq", 0)))


@pytest.mark.parametrize("years", [0, 5, -1])
def test_no_setting_keeps_records_for_less_than_six_years(tmp_path, years):
    with pytest.raises(TraitError):
        NightingaleHub(state_dir=str(tmp_path), audit_keep_years=years)


async def test_even_a_setting_that_was_forced_keeps_records_for_six_years(world, monkeypatch):
    await world.mover().step()
    world.settings._trait_values["audit_keep_years"] = 1
    await keep(world, NOW_US + 5 * 365 * DAY_US)
    assert len(world.parts()) == 4 and list_files(world.segments)
    assert {part.state for part in world.parts()} == {"cold"}


async def keep(world, at_us):
    await Keeper(world.context, world.segments, lambda: at_us).step()


async def test_what_is_past_its_time_is_dropped_and_the_checker_knows(world, tmp_path):
    await world.mover().step()
    six_years = NOW_US + 7 * 366 * DAY_US
    for path in world.segments.iterdir():
        os.utime(path, (AT_US / US_PER_S, AT_US / US_PER_S))
    with world.database.write() as conn:
        conn.execute(update(audit_batch).values(received_us=AT_US))
    await keep(world, six_years)
    await world.mover(six_years).clean()
    assert world.parts() == [] and list_files(world.segments) == []
    assert world.ask(lambda history, conn: history.list_events(conn, Filters(), 9, None)) == (
        [],
        None,
    )
    bundle = await export(world, tmp_path / "bundle.zip")
    verdict = verify_file(bundle, None, None)
    assert verdict.problems == [] and verdict.dropped == 2
    # What remains of a stream whose beginning was dropped is rebuilt behind it.
    world.database.transact(lambda conn: rebuild(conn, world.segments))
    assert world.count(audit_batch) == 2


async def test_lines_dropped_before_their_time_are_an_edit(world, tmp_path):
    with world.database.write() as conn:
        file = conn.execute(select(audit_batch.c.file).limit(1)).scalar_one()
        drop_file(conn, file, NOW_US + 5 * 365 * DAY_US)
    verdict = verify_file(await export(world, tmp_path / "early.zip"), None, None)
    assert any("dropped before six years" in each for each in verdict.problems)


async def export(world, path):
    log = Log(world.context)
    await log.step()
    with world.database.read() as conn:
        key = LogSigner(world.settings).key
        missing = export_bundle(conn, Segments(world.segments, 0), key, path, NOW_US)
    assert missing == []
    return path


def test_the_hot_months_are_this_one_and_those_before():
    def month(text):
        return month_bounds_us(text)[0]

    assert find_hot_since(3, month("2026-11") + DAY_US) == month("2026-08")
    assert find_hot_since(3, month("2026-02")) == month("2025-11")
    assert find_hot_since(12, month("2026-01")) == month("2025-01")
    leap = month("2028-02") + 28 * DAY_US
    assert find_kept_since(6, leap) == month("2022-02") + 27 * DAY_US
