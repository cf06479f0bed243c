"""The log is ordered, signed each minute, witnessed, and goes on from where a killed one was."""

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from nightingale_hub.clock import now_us
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.proof.note import Checkpoint
from nightingale_hub.proof.tree import Range, encode_leaf, hash_leaf
from nightingale_hub.service import Context
from nightingale_hub.services.audit import log as audit_log
from nightingale_hub.services.audit.ends import QUIET_FOR_US, end_streams
from nightingale_hub.services.audit.log import Log, LogContradicted, LogSigner, find_root
from nightingale_hub.services.audit.witness import Witness
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_stream
from nightingale_hub.tables.base import service_lease
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.log import log_checkpoint, log_leaf
from tests.audit import AT_US, add_instance, audit_service, list_findings, make_lines


@pytest.fixture
def make_log(database, tmp_path):
    """Makes the log of one hub, as each start of its audit service does."""
    with database.write() as conn:
        conn.execute(insert(service_lease).values(service="audit", epoch=1, holder="t", taken_us=0))

    def make(witnesses=(), state="state"):
        settings = NightingaleHub(
            state_dir=str(tmp_path / state), db_url=database.url, audit_witnesses=list(witnesses)
        )
        return Log(Context("audit", settings, database, 1))

    return make


def append(database, count, kind="journal"):
    with database.write() as conn:
        for n in range(count):
            append_leaf(conn, kind, {"n": n}, AT_US)


def list_positions(database):
    with database.read() as conn:
        rows = conn.execute(select(log_leaf).order_by(log_leaf.c.position)).all()
    return [row.position for row in rows]


def list_checkpoints(database, tmp_path):
    settings = NightingaleHub(state_dir=str(tmp_path / "state"), db_url=database.url)
    key = LogSigner(settings).key
    with database.read() as conn:
        notes = conn.execute(select(log_checkpoint.c.note).order_by(log_checkpoint.c.at_us))
        return [Checkpoint.parse(note, key) for note in notes.scalars()]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 100])
def test_the_root_is_that_of_the_rfc(size):
    # The definition itself, which splits from the top. ref: RFC 6962, section 2.1
    import hashlib

    def root(leaves):
        if len(leaves) < 2:
            return leaves[0] if leaves else hashlib.sha256(b"").digest()
        k = 1 << ((len(leaves) - 1).bit_length() - 1)
        return hashlib.sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()

    leaves = [hash_leaf(str(n).encode()) for n in range(size)]
    tree = Range()
    for leaf in leaves:
        tree.append(leaf)
    assert (tree.size, tree.root()) == (size, root(leaves))


async def test_each_leaf_gets_one_position_and_the_head_is_signed(database, make_log, tmp_path):
    append(database, 5)
    log = make_log()
    await log.step()
    append(database, 3)
    await log.step()
    positions = list_positions(database)
    assert positions == list(range(len(positions))) and len(positions) == 10
    (signed,) = list_checkpoints(database, tmp_path)
    assert signed.size == 7, "the second step was within the minute"
    with database.read() as conn:
        assert find_root(conn, 7) == signed.root
        assert find_root(conn, 11) is None
        kinds = conn.execute(select(log_leaf.c.kind).order_by(log_leaf.c.id)).scalars().all()
    assert kinds.count("log_key") == 1 and kinds.count("configuration") == 1


async def test_an_idle_log_is_signed_again_after_a_minute(
    database, make_log, tmp_path, monkeypatch
):
    log = make_log()
    later_us = now_us()
    for _ in range(3):
        monkeypatch.setattr(audit_log, "now_us", lambda at=later_us: at)
        await log.step()
        later_us += 60_000_000
    signed = list_checkpoints(database, tmp_path)
    assert [each.at_us - signed[0].at_us for each in signed] == [0, 60_000_000, 120_000_000]
    assert len({(each.size, each.root) for each in signed}) == 1


async def test_a_log_that_was_killed_goes_on_with_the_same_tree(database, make_log, tmp_path):
    for count in (4, 1, 6):
        append(database, count)
        await make_log().step()
    signed = list_checkpoints(database, tmp_path)
    assert [each.size for each in signed] == [6, 7, 13]
    with database.read() as conn:
        assert [find_root(conn, each.size) for each in signed] == [each.root for each in signed]
        kinds = conn.execute(select(log_leaf.c.kind)).scalars().all()
    assert kinds.count("configuration") == 1, "the same settings are logged once"


async def test_a_leaf_that_is_committed_late_still_gets_its_position(database, make_log):
    if database.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time: no leaf is committed behind a later one")
    log = make_log()
    started, go = threading.Event(), threading.Event()

    def slow():
        with database.write() as conn:
            append_leaf(conn, "journal", {"slow": 1}, AT_US)
            started.set()
            go.wait(30)

    thread = threading.Thread(target=slow)
    thread.start()
    await asyncio.to_thread(started.wait, 30)
    append(database, 2)
    await log.step()
    go.set()
    await asyncio.to_thread(thread.join, 30)
    await log.step()
    assert None not in list_positions(database)


async def test_changed_settings_are_a_leaf_without_their_secrets(database, make_log, tmp_path):
    await make_log().step()
    await make_log(witnesses=[str(tmp_path / "witness")]).step()
    with database.read() as conn:
        rows = conn.execute(select(log_leaf).where(log_leaf.c.kind == "configuration")).all()
    assert len(rows) == 2
    assert "witness" in rows[1].payload
    assert not any(database.url in row.payload for row in rows)


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "witness")
    return f"memory://{tmp_path.name}/witness"


async def test_a_witness_gets_each_checkpoint_and_keeps_the_first(database, make_log, place):
    log = make_log([place])
    await log.step()
    append(database, 1)
    with database.write() as conn:
        conn.execute(update(log_checkpoint).values(witnessed_us=None))
    await log.step()
    await make_log([place]).step()
    note = Witness(place).find_newest()
    with database.read() as conn:
        rows = conn.execute(select(log_checkpoint).order_by(log_checkpoint.c.at_us)).all()
    assert len(rows) == 2 and note == rows[-1].note
    assert all(row.witnessed_us for row in rows)
    Witness(place).put(rows[-1].at_us, rows[-1].size, "another")
    assert Witness(place).find_newest() == note


async def test_a_witness_that_is_away_gets_all_of_it_later(database, make_log, tmp_path, caplog):
    witness = tmp_path / "mount" / "witness"
    witness.parent.write_text("a file where the mount should be")
    log = make_log([str(witness)])
    await log.step()
    assert "did not take" in caplog.text or "cannot be asked" in caplog.text
    with database.read() as conn:
        assert conn.execute(select(log_checkpoint.c.witnessed_us)).scalars().all() == [None]
    witness.parent.unlink()
    await log.step()
    assert len(list(witness.rglob("*.note"))) == 1


async def test_a_log_older_than_its_witness_signs_nothing_and_is_critical(
    database, make_log, tmp_path
):
    witness = str(tmp_path / "witness")
    append(database, 3)
    await make_log([witness]).step()
    # A restored copy: the database forgets what was signed.
    with database.write() as conn:
        conn.execute(delete(log_checkpoint))
        conn.exec_driver_sql(
            "DROP TRIGGER log_leaf_no_delete"
            + ("" if database.dialect == "sqlite" else " ON log_leaf")
        )
        conn.execute(delete(log_leaf).where(log_leaf.c.position > 1))
    for _ in range(2):
        with pytest.raises(LogContradicted):
            await make_log([witness]).step()
    assert [each[:2] for each in list_findings(database)] == [("log_contradicted", "critical")]
    with database.read() as conn:
        assert conn.execute(select(log_checkpoint)).all() == []


async def test_a_stream_ends_with_a_leaf_and_again_after_a_late_drain(database, tmp_path):
    gone, alive = add_instance(database), add_instance(database)
    long_ago = now_us() - QUIET_FOR_US - 1
    async with audit_service(database, tmp_path / "state") as audit:
        for round_ in range(2):
            await audit.send(gone, round_ * 2 + 1, make_lines(round_ * 2 + 1, round_ * 2 + 2))
            await audit.send(alive, round_ * 2 + 1, make_lines(round_ * 2 + 1, round_ * 2 + 2))
            with database.write() as conn:
                assert end_streams(conn, now_us()) == 0, "it was heard of just now"
                conn.execute(update(audit_stream).values(seen_us=long_ago))
                conn.execute(
                    update(instance)
                    .where(instance.c.id == gone.instance_id)
                    .values(gone_us=long_ago)
                )
                assert [end_streams(conn, now_us()) for _ in range(2)] == [1, 0]
    with database.read() as conn:
        rows = conn.execute(select(log_leaf).where(log_leaf.c.kind == "stream_end")).all()
    told = [json.loads(row.payload) for row in rows]
    assert [(each["stream_id"], each["last_seq"]) for each in told] == [
        (gone.stream_id, 2),
        (gone.stream_id, 4),
    ]


def test_a_note_that_was_touched_is_not_taken(tmp_path):
    settings = NightingaleHub(state_dir=str(tmp_path))
    signer = LogSigner(settings)
    said = Checkpoint(signer.key.name, 7, b"r" * 32, AT_US)
    note = signer.sign(said.format())
    assert Checkpoint.parse(note, signer.key) == said
    other = LogSigner(NightingaleHub(state_dir=str(tmp_path / "other")))
    for touched, key in (
        (note.replace("\n7\n", "\n8\n"), signer.key),
        (note.replace("— ", "- "), signer.key),
        (note.split("\n\n")[0], signer.key),
        ("", signer.key),
        (note, other.key),
        (note, replace(signer.key, name="another")),
    ):
        with pytest.raises(ValueError):
            Checkpoint.parse(touched, key)
    assert Path(settings.state_path, "audit", "log.key").stat().st_mode & 0o777 == 0o600
    assert encode_leaf("a", 1, "b") != encode_leaf("a", 11, "b")
