"""Findings wait for the sign-off of who answers for the data; a month's access record adds up."""

import base64
import csv
import hashlib
import io
import json
from typing import Any

import pytest
from sqlalchemy import select

from nightingale_hub.clock import month_bounds_us
from nightingale_hub.datasets import Dataset, ensure_dataset
from nightingale_hub.errors import BadInput, NotAllowed, NotFound
from nightingale_hub.services.audit.detect.finding import Finding
from nightingale_hub.services.audit.respond.incidents import take_in
from nightingale_hub.services.audit.respond.reviews import list_queue, sign_off
from nightingale_hub.tables.incidents import bypass, review
from nightingale_hub.tables.log import finding, log_leaf
from tests.audit import AT_US, CONSOLE, add_instance, audit_service, make_line
from tests.test_audit_index import HOSTILE

OWNERS = {"ct": ["dora"], "ecg": []}
MONTH = "2026-11"
NOTE = "agreed with the study's protocol"


@pytest.fixture
def found(database):
    """Findings about alice on ct, bob on a dataset of nobody, and dora on her own."""
    add_instance(database)
    with database.write() as conn:
        for owner, dataset, severity in (
            ("alice", "ct", "high"),
            ("alice", "ct", "critical"),
            ("bob", "mr", "medium"),
            ("dora", "ct", "high"),
            ("carol", "ecg", "high"),
        ):
            ensure_dataset(conn, Dataset(dataset, dataset, "", "", f"/data/{dataset}"))
            each = Finding("R3", 1, severity, owner, dataset, AT_US, AT_US, f"why {owner}")
            take_in(conn, each, AT_US)
        return {(row.subject, row.severity): row.id for row in conn.execute(select(finding)).all()}


def queue_of(database, reviewer, is_admin=False):
    with database.read() as conn:
        waiting = list_queue(conn, OWNERS, reviewer, is_admin)
    return [(each["subject"], each["severity"]) for each in waiting]


def sign(database, number, reviewer="dora", is_admin=False, verdict="justified", note=NOTE):
    with database.write() as conn:
        sign_off(conn, OWNERS, number, reviewer, is_admin, verdict, note, AT_US + 1)


def test_each_reviewer_sees_what_they_answer_for_the_gravest_first(database, found):
    assert queue_of(database, "dora") == [("user:alice", "critical"), ("user:alice", "high")]
    assert queue_of(database, "root", is_admin=True) == [("user:bob", "medium")]
    assert queue_of(database, "alice") == queue_of(database, "bob", is_admin=True) == []


def test_a_sign_off_closes_a_finding_and_is_in_the_log(database, found):
    sign(database, found["user:alice", "critical"])
    assert queue_of(database, "dora") == [("user:alice", "high")]
    with database.read() as conn:
        [row] = conn.execute(select(review)).all()
        kinds = list(conn.execute(select(log_leaf.c.kind)).scalars())
    assert (row.reviewer, row.verdict, row.note) == ("dora", "justified", NOTE)
    assert kinds.count("review") == kinds.count("finding_state") == 1


@pytest.mark.parametrize(
    ("about", "changes", "error"),
    [
        (("user:dora", "high"), {}, NotAllowed),
        (("user:bob", "medium"), {}, NotFound),
        (("user:alice", "high"), {"reviewer": "alice"}, NotAllowed),
        (("user:alice", "high"), {"reviewer": "eve"}, NotFound),
        (("user:alice", "high"), {"reviewer": "root", "is_admin": True}, NotFound),
        (("user:carol", "high"), {"reviewer": "root", "is_admin": True}, NotFound),
        (("user:alice", "high"), {"verdict": "fine"}, BadInput),
        (("user:alice", "high"), {"note": "ok"}, BadInput),
        (None, {}, NotFound),
    ],
)
def test_a_sign_off_that_is_nobodys_to_give_changes_nothing(database, found, about, changes, error):
    with pytest.raises(error):
        sign(database, found[about] if about else 10**6, **changes)
    with database.read() as conn:
        assert conn.execute(select(review)).all() == []
        assert set(conn.execute(select(finding.c.state)).scalars()) == {"open"}


async def fill(database, audit, names):
    """Reads of two people in the month, one before it and one of another dataset."""
    since_us, until_us = month_bounds_us(MONTH)
    for owner in ("alice", "bob"):
        sender = add_instance(database, owner)
        lines: list[dict[str, Any]] = []
        for path in names:
            for act in ("open", "read", "read", "release"):
                lines.append({"act": act, "path": path, "ts": AT_US + len(lines)})
        lines += [
            {"act": "denied", "path": names[0], "ts": until_us - 1, "len": 0},
            {"act": "read", "path": names[0], "ts": until_us},
            {"act": "read", "path": names[0], "ts": since_us - 1},
            {"act": "read", "path": names[0], "ts": AT_US, "ds": "other"},
        ]
        batch = [
            make_line(seq, owner=owner, **{"ds": "ct", "len": 100, **fields})
            for seq, fields in enumerate(lines, 1)
        ]
        await audit.send(sender, 1, batch)
        await audit.wait_indexed(sender, len(batch))


async def ask(audit, path, **query: Any):
    return await audit.http.get(f"api/{path}", params=query, headers=CONSOLE)


async def test_a_months_access_record_adds_up_and_is_inert(database, tmp_path, found):
    async with audit_service(database, tmp_path / "state", data_owners=OWNERS) as audit:
        await fill(database, audit, HOSTILE)
        asked = {"dataset": "ct", "month": MONTH, "reviewer": "dora"}
        answer = await ask(audit, "report", **asked)
        again = await ask(audit, "report", **asked)
        for reviewer in ("alice", "root"):
            refused = await ask(audit, "report", **{**asked, "reviewer": reviewer, "admin": 1})
            assert refused.status_code == 404
        wrong = await ask(audit, "report", **{**asked, "month": "2026-13"})
        assert wrong.status_code == 400
    assert answer.json() == again.json()
    text = answer.json()["csv"]
    assert all(char.isprintable() or char in "\r\n" for char in text)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * len(HOSTILE)
    assert {row["user"] for row in rows} == {"alice", "bob"}
    assert {(row["opens"], row["reads"], row["bytes"]) for row in rows} == {("1", "2", "200")}
    assert sum(int(row["refused"]) for row in rows) == 2
    assert not any(row["path"].lstrip().startswith(("=", "+", "-", "@")) for row in rows)
    paper = base64.b64decode(answer.json()["pdf"])
    assert paper.startswith(b"%PDF") and b"onerror" not in paper
    assert hashlib.sha256(text.encode()).hexdigest().encode() in paper
    assert b"why alice" in paper and b"why bob" not in paper and b"not reviewed yet" in paper


async def test_only_the_console_asks_and_wrong_values_are_named(database, tmp_path, found):
    number = found["user:alice", "high"]
    body = {"reviewer": "dora", "admin": False, "verdict": "breach", "note": NOTE}
    async with audit_service(database, tmp_path / "state", data_owners=OWNERS) as audit:
        for headers in ({}, {"Authorization": "Bearer of-alice"}):
            for path in ("review", "report"):
                assert (await audit.http.get(f"api/{path}", headers=headers)).status_code == 403
            for path in (f"review/{number}", "bypasses"):
                post = await audit.http.post(f"api/{path}", json=body, headers=headers)
                assert post.status_code == 403
        for changes in ({"reviewer": 1}, {"admin": "yes"}, {"note": None}):
            wrong = await audit.http.post(
                f"api/review/{number}", json=body | changes, headers=CONSOLE
            )
            assert wrong.status_code == 400
        done = await audit.http.post(f"api/review/{number}", json=body, headers=CONSOLE)
        assert done.json() == {}
        waiting = (await ask(audit, "review", reviewer="dora")).json()["findings"]
        assert [each["severity"] for each in waiting if each["rule"] == "R3"] == ["critical"]
        allowed = {
            "owner": "alice", "reviewer": "root", "rules": ["R3"], "hours": 2,
            "reason": "computes features of every image once",
        }  # fmt: skip
        answer = await audit.http.post("api/bypasses", json=allowed, headers=CONSOLE)
        own = await audit.http.post(
            "api/bypasses", json=allowed | {"reviewer": "alice"}, headers=CONSOLE
        )
        assert (answer.status_code, own.status_code) == (200, 403)
    with database.read() as conn:
        [row] = conn.execute(select(bypass)).all()
    assert json.loads(answer.text) == {"bypass": row.id}
