"""A leaf is committed with what it stands for and never edited; a finding is raised once."""

import hashlib
import json
import threading
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DatabaseError

from nightingale_hub.errors import NotFound
from nightingale_hub.findings import (
    FindingState,
    Severity,
    change_state,
    find_by_key,
    parse_evidence,
    raise_finding,
)
from nightingale_hub.lease import take_lease
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.tables.base import service_lease
from nightingale_hub.tables.log import finding, log_leaf

AT_US = 1_795_000_000_000_000
HOSTILE = "\x00\x1b[31m\u202e=1+1\ud800<img>"


def list_leaves(database):
    with database.read() as conn:
        return conn.execute(select(log_leaf).order_by(log_leaf.c.id)).all()


def test_a_leaf_is_there_exactly_when_what_it_stands_for_is(database):
    with pytest.raises(RuntimeError), database.write() as conn:
        take_lease(conn, "billing", "x", 1)
        append_leaf(conn, "journal", {"idem_key": "lost"}, AT_US)
        raise RuntimeError
    with database.write() as conn:
        take_lease(conn, "billing", "x", 1)
        append_leaf(conn, "journal", {"idem_key": "kept"}, AT_US)
    with database.read() as conn:
        assert len(conn.execute(select(service_lease)).all()) == 1
    assert [each.payload for each in list_leaves(database)] == ['{"idem_key":"kept"}']


def test_a_payload_has_one_text_which_its_hash_is_of(database):
    with database.write() as conn:
        append_leaf(conn, "journal", {"b": [1, HOSTILE], "a": {"z": 1, "y": 2}}, AT_US)
        append_leaf(conn, "journal", {"a": {"y": 2, "z": 1}, "b": [1, HOSTILE]}, AT_US)
    one, other = list_leaves(database)
    assert one.payload == other.payload and one.payload.isascii()
    assert one.sha256 == hashlib.sha256(one.payload.encode()).hexdigest()
    assert json.loads(one.payload)["b"][1] == HOSTILE


@pytest.mark.parametrize("kind", ["", "Two Words", "x" * 41, "a-b", "é"])
def test_a_kind_is_one_word(database, kind):
    with pytest.raises(AssertionError), database.write() as conn:
        append_leaf(conn, kind, {}, AT_US)


@pytest.mark.parametrize(
    "change",
    [
        update(log_leaf).values(payload="{}"),
        update(log_leaf).values(sha256="0"),
        update(log_leaf).values(kind="other"),
        update(log_leaf).values(at_us=1),
        update(log_leaf).values(position=None),
        update(log_leaf).values(position=7),
        update(log_leaf).values(id=99, position=0),
        delete(log_leaf),
    ],
)
def test_a_leaf_that_has_its_position_cannot_be_changed(database, change):
    with database.write() as conn:
        append_leaf(conn, "journal", {"n": 1}, AT_US)
        conn.execute(update(log_leaf).values(position=0))
    with pytest.raises(DatabaseError, match="append-only"), database.write() as conn:
        conn.execute(change)


def test_no_two_leaves_have_one_position(database):
    with database.write() as conn:
        for n in range(2):
            append_leaf(conn, "journal", {"n": n}, AT_US)
    with pytest.raises(DatabaseError), database.write() as conn:
        conn.execute(update(log_leaf).values(position=0))


def raise_one(conn, **changes):
    values: dict[str, Any] = {
        "key": "equivocation:i-1:b-1:7",
        "kind": "equivocation",
        "severity": Severity.CRITICAL,
        "subject": "stream:i-1:b-1",
        "evidence": {"seq": 7, "path": HOSTILE},
        "at_us": AT_US,
    }
    return raise_finding(conn, **(values | changes))


def test_a_finding_is_raised_once_and_is_in_the_log(database):
    with database.write() as conn:
        first = raise_one(conn)
        assert raise_one(conn, severity=Severity.LOW, evidence={}) == first
    with database.read() as conn:
        row = conn.execute(select(finding)).one()
    assert (row.severity, row.state) == ("critical", "open")
    assert parse_evidence(row) == {"seq": 7, "path": HOSTILE}
    (leaf,) = list_leaves(database)
    told = json.loads(leaf.payload)
    assert (leaf.kind, told["finding"], told["key"]) == ("finding", first, row.key)
    assert told["evidence_sha256"] == hashlib.sha256(row.evidence.encode()).hexdigest()


def test_six_that_find_the_same_at_once_raise_one_finding(database):
    ids = []

    def work():
        ids.append(database.transact(raise_one))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 6 and len(set(ids)) == 1
    assert len(list_leaves(database)) == 1


def test_who_closed_a_finding_and_why_is_in_the_log(database):
    with database.write() as conn:
        found = raise_one(conn)
        change_state(conn, found, FindingState.CLOSED, "carol", "a test", AT_US + 1)
        row = find_by_key(conn, "equivocation:i-1:b-1:7")
        assert row is not None and row.state == "closed"
        with pytest.raises(NotFound, match="no finding 99"):
            change_state(conn, 99, FindingState.CLOSED, "carol", "a test", AT_US)
    told = json.loads(list_leaves(database)[1].payload)
    assert told == {"finding": found, "state": "closed", "by": "carol", "reason": "a test"}


def test_a_severity_that_there_is_not_is_refused(database):
    with pytest.raises(ValueError, match="dreadful"), database.write() as conn:
        raise_one(conn, severity="dreadful")
    values = {"key": "k", "kind": "k", "subject": "s", "evidence": "{}", "at_us": 0}
    with pytest.raises(DatabaseError), database.write() as conn:
        conn.execute(insert(finding).values(**values, severity="dreadful", state="open"))
