"""What an instance may not send: refused with the reason, and nothing is stored."""

import os

import pytest
import zstandard

from nightingale_hub.services.audit.segments import list_files
from tests.audit import add_instance, audit_service, count_batches, make_line, make_lines, pack


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
