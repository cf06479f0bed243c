"""What an instance may not send: refused with the reason, and nothing is stored."""

import os
from dataclasses import replace

import pytest
import zstandard
from sqlalchemy import select, update

from nightingale_hub.audit_chain import Signer
from nightingale_hub.clock import now_us
from nightingale_hub.services.audit.segments import list_files
from nightingale_hub.services.audit.sender import revoke
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.log import log_leaf
from tests.audit import (
    AT_US,
    add_instance,
    audit_service,
    count_batches,
    list_findings,
    make_line,
    make_lines,
    pack,
)


@pytest.fixture
async def audit(database, tmp_path):
    async with audit_service(database, tmp_path / "state") as client:
        yield client


async def test_only_the_instance_itself_writes_its_stream(database, audit):
    mine, other = add_instance(database), add_instance(database)
    lines = make_lines(1, 2)
    wrong = ["", "Bearer", "Bearer garbage", f"Basic {mine.credential}", "Bearer of-alice"]
    for header in [*wrong, f"Bearer {other.credential}"]:
        response = await audit.send(mine, 1, lines, headers={"Authorization": header})
        assert response.status_code == 403, header
    response = await audit.send(mine, 1, lines, stream_id=f"{mine.instance_id}x:{mine.boot_id}")
    assert response.status_code == 403
    assert count_batches(database) == 0
    assert list_files(audit.segments) == []


BAD_LINES = {
    "another act": make_line(2, act="write"),
    "text for a number": make_line(2, uid="0"),
    "a fraction": make_line(2, len=1.5),
    "a truth": make_line(2, off=True),
    "nothing": make_line(2, path=None),
    "another owner": make_line(2, user="mallory"),
    "another seq": make_line(3),
    "an unknown field": make_line(2, extra=1),
    "another version": make_line(2, v=2),
    "a negative length": make_line(2, len=-1),
    "an absurd length": make_line(2, len=2**63 - 1),
    "an absurd offset": make_line(2, off=2**63),
    "an absurd time": make_line(2, ts=10**18),
    "an absurd inode": make_line(2, ino=2**64),
    "a path with NUL": make_line(2, path="a\0b"),
    "a lone surrogate": make_line(2, path="\ud800"),
    "no UTF-8": make_line(2).replace(b"dicom", b"\xff\xfe"),
    "no object": b"[2]",
    "no JSON": b"{",
    "an empty line": b"",
    "two values": make_line(2) + b" {}",
    "deep nesting": b'{"v":' + b"[" * 100_000,
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
async def test_one_bad_line_refuses_the_batch_and_is_named(database, audit, bad):
    sender = add_instance(database)
    response = await audit.send(sender, 1, [make_line(1), bad, make_line(3)])
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"].startswith("line 2: ")
    assert count_batches(database) == 0


async def test_a_batch_that_is_not_what_its_headers_say_is_refused(database, audit):
    sender = add_instance(database)
    lines = make_lines(1, 3)
    packed = pack(lines)
    for changes in (
        {"headers": {"X-Last-Seq": "4"}},
        {"headers": {"X-Root": ""}},
        {"headers": {"X-Chain": "A" * 64}},
        {"headers": {"X-Prev-Chain": "0" * 63}},
        {"headers": {"X-Signature": "not hex"}},
        {"headers": {"X-Last-Seq": "2"}},
        {"headers": {"X-First-Seq": "0"}},
        {"headers": {"X-First-Seq": "one"}},
        {"headers": {"X-First-Seq": "-1"}},
        {"headers": {"Content-Encoding": "gzip"}},
        {"content": b"no zstd"},
        {"content": packed[:-4]},
        {"content": packed + b"more"},
        {"content": zstandard.compress(b"\n".join(lines))},
        {"stream_id": "no-boot"},
    ):
        response = await audit.send(sender, 1, lines, **changes)
        assert response.status_code == 400, changes
    assert count_batches(database) == 0


async def test_what_is_too_large_is_refused_before_it_takes_memory(database, audit):
    sender = add_instance(database)
    bomb = zstandard.compress(b"\n" * (512 << 20))
    assert len(bomb) < 1 << 20

    async def in_chunks():
        for _ in range(5):
            yield bytes(1 << 20)

    for content in (bomb, os.urandom((4 << 20) + 1), in_chunks()):
        response = await audit.send(sender, 1, make_lines(1, 1), content=content)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")


async def test_a_sender_that_is_refused_reads_why_after_a_large_body(database, audit):
    sender = add_instance(database)
    response = await audit.send(
        sender,
        1,
        make_lines(1, 1),
        content=os.urandom(3 << 20),
        headers={"Authorization": "Bearer garbage"},
    )
    assert (response.status_code, response.json()["error"]["code"]) == (403, "not_allowed")


async def test_a_stream_takes_nothing_before_it_is_opened(database, audit):
    sender = add_instance(database)
    sender.chains[0] = "0" * 64
    response = await audit.send(sender, 1, make_lines(1, 2))
    assert (response.status_code, response.json()["error"]["code"]) == (409, "not_open")
    assert count_batches(database) == 0


async def test_a_stream_is_opened_with_one_key_only(database, audit):
    sender = add_instance(database)
    for _ in range(2):
        assert (await audit.open(sender)).json() == {"ack": 0}
    await audit.send(sender, 1, make_lines(1, 2))
    assert (await audit.open(sender)).json() == {"ack": 2}
    other = replace(sender, signer=Signer(b"x" * 32), chains={})
    response = await audit.open(other)
    assert (response.status_code, response.json()["error"]["code"]) == (409, "conflict")
    assert [each[:2] for each in list_findings(database)] == [("equivocation", "critical")]


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"public_key": None},
        {"public_key": "0" * 63},
        {"public_key": "0" * 64},
        {"public_key": Signer(b"x" * 32).public_key},
        {"signature": "0" * 128},
        {"signature": "none"},
        {"signature": 7},
    ],
)
async def test_a_key_that_is_not_shown_to_be_the_senders_is_refused(database, audit, changes):
    sender = add_instance(database)
    assert (await audit.open(sender, **changes)).status_code == 400
    assert (await audit.send(sender, 1, make_lines(1, 1))).json() == {"ack": 1}


async def test_a_batch_that_another_key_sealed_is_refused_and_a_finding(database, audit):
    sender = add_instance(database)
    await audit.open(sender)
    lines = make_lines(1, 3)
    seal = replace(sender, signer=Signer(b"x" * 32)).seal(1, lines)
    good = sender.seal(1, lines)
    for bad in (
        seal,
        good._replace(signature=seal.signature),
        good._replace(root=sender.seal(1, make_lines(1, 2)).root),
        good._replace(prev_chain="0" * 64),
    ):
        response = await audit.send(sender, 1, lines, seal=bad)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_seal")
    assert count_batches(database) == 0
    assert [each[:2] for each in list_findings(database)] == [("bad_seal", "high")]


async def test_a_revoked_or_expired_credential_sends_nothing(database, audit):
    revoked, expired, drains = (add_instance(database, actual="stopped") for _ in range(3))
    for sender in (revoked, expired, drains):
        assert (await audit.send(sender, 1, make_lines(1, 1))).status_code == 200
    a_week_us = 7 * 24 * 3600 * 1_000_000
    with database.write() as conn:
        assert revoke(conn, revoked.instance_id, "carol", "stolen", AT_US)
        assert not revoke(conn, revoked.instance_id, "carol", "stolen", AT_US)
        for sender, ago_us in ((expired, a_week_us + 1), (drains, a_week_us - 60_000_000)):
            row = update(instance).where(instance.c.id == sender.instance_id)
            conn.execute(row.values(gone_us=now_us() - ago_us))
    for sender, status, word in ((revoked, 403, "revoked"), (expired, 403, "expired")):
        for response in (
            await audit.send(sender, 2, make_lines(2, 2)),
            await audit.open(sender),
        ):
            assert response.status_code == status
            assert word in response.json()["error"]["message"]
    assert (await audit.send(drains, 2, make_lines(2, 2))).json() == {"ack": 2}
    with database.read() as conn:
        kinds = list(conn.execute(select(log_leaf.c.kind).order_by(log_leaf.c.id)).scalars())
    assert kinds.count("credential_revoked") == 1
