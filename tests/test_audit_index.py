"""Stored lines are found again, each once, by any filter; the index equals the segment files."""

import asyncio
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightingale_hub.services.audit import service
from tests.audit import (
    AT_US,
    CONSOLE,
    add_instance,
    audit_service,
    make_line,
    make_lines,
)

HOSTILE = [
    "<img src=x onerror=alert(1)>.dcm",
    "</script><script>alert(1)</script>",
    "=HYPERLINK(1).csv",
    "new\nline\r\n.dcm",
    "\x1b[31mred\x07.dcm",
    "\u202egnp.dcm",
    "\\xff\\xfe.dcm",
    "back\\\\slash",
    "'; DROP TABLE audit_event; --",
    "100%_[a-z].dcm",
    " spaced ",
    "😀" * 1000,
    "".join(f"\\x{byte:02x}" for byte in os.urandom(4000)),
]


@pytest.fixture
async def audit(database, tmp_path):
    async with audit_service(database, tmp_path / "state") as client:
        yield client


async def test_a_read_is_told_in_every_field(database, audit):
    sender = add_instance(database)
    await audit.send(sender, 1, [make_line(1, off=512, rc=5)])
    await audit.wait_indexed(sender, 1)
    assert await audit.ask("reads") == {
        "reads": [
            {
                "stream_id": sender.stream_id,
                "seq": 1,
                "at_us": AT_US + 1,
                "owner": "alice",
                "action": "read",
                "dataset": "dicom",
                "path": "CT/1.dcm",
                "offset": 512,
                "length": 4096,
                "duration_us": 12,
                "file_id": 3,
                "uid": 1000,
                "pid": 7,
                "executable": "/usr/bin/cat",
                "errno": 5,
            }
        ],
        "next": None,
    }


async def test_a_hostile_path_comes_back_as_it_was_and_inert(database, audit):
    sender = add_instance(database)
    lines = [make_line(seq, path=path) for seq, path in enumerate(HOSTILE, 1)]
    assert (await audit.send(sender, 1, lines)).json() == {"ack": len(HOSTILE)}
    await audit.wait_indexed(sender, len(HOSTILE))
    response = await audit.http.get("api/reads", headers=CONSOLE)
    assert response.headers["Content-Type"] == "application/json"
    assert response.text.isascii() and response.text.isprintable()
    assert [each["path"] for each in reversed(response.json()["reads"])] == HOSTILE
    for seq, path in enumerate(HOSTILE, 1):
        found = await audit.ask("reads", dataset="dicom", path=path)
        assert [each["seq"] for each in found["reads"]] == [seq], path


async def test_a_path_prefix_is_taken_literally(database, audit):
    sender = add_instance(database)
    paths = ["CT/a_1", "CT/ab1", "ct/a_1", "CT/a%1", "MR/a_1"]
    await audit.send(sender, 1, [make_line(n, path=path) for n, path in enumerate(paths, 1)])
    await audit.wait_indexed(sender, 5)
    for query, hits in {
        "CT/*": {1, 2, 4},
        "CT/a_*": {1},
        "CT/a%*": {4},
        "*": {1, 2, 3, 4, 5},
    }.items():
        found = await audit.ask("reads", path=query)
        assert {each["seq"] for each in found["reads"]} == hits, query


async def test_filters_combine(database, audit):
    senders = [add_instance(database, owner) for owner in ("alice", "bob")]
    truth = []
    for sender in senders:
        lines = []
        for seq in range(1, 25):
            dataset, path = ("dicom", "ecg")[seq % 2], f"{'ab'[seq % 3 == 0]}/{seq}"
            lines.append(make_line(seq, owner=sender.owner, ds=dataset, path=path))
            truth.append((sender, seq, dataset, path))
        await audit.send(sender, 1, lines)
        await audit.wait_indexed(sender, 24)
    alice, _ = senders
    found = await audit.ask(
        "reads",
        owner="alice",
        dataset="ecg",
        path="b/*",
        instance=alice.instance_id,
        since_us=AT_US + 5,
        until_us=AT_US + 21,
    )
    assert [each["seq"] for each in found["reads"]] == [
        seq
        for sender, seq, dataset, path in reversed(truth)
        if sender is alice and dataset == "ecg" and path[0] == "b" and 5 <= seq < 21
    ]
    wrong = await audit.ask("reads", owner="bob", instance=alice.instance_id)
    assert wrong == {"reads": [], "next": None}


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    times=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    limit=st.integers(1, 12),
)
def test_pages_show_each_event_once_newest_first(database, tmp_path, times, limit):
    async def play() -> None:
        sender, late = add_instance(database), add_instance(database)
        async with audit_service(database, tmp_path / "state") as audit:
            lines = [make_line(seq, ts=AT_US + at) for seq, at in enumerate(times, 1)]
            await audit.send(sender, 1, lines)
            await audit.wait_indexed(sender, len(times))
            seen = []
            cursor: dict[str, str] = {}
            while True:
                page = await audit.ask("reads", limit=limit, instance=sender.instance_id, **cursor)
                assert len(page["reads"]) <= limit
                seen += [(each["at_us"] - AT_US, each["seq"]) for each in page["reads"]]
                if not cursor:
                    await audit.send(late, 1, [make_line(1, ts=AT_US + 9)])
                    await audit.wait_indexed(late, 1)
                if page["next"] is None:
                    break
                cursor = {"before": page["next"]}
        expected = [(at, seq) for seq, at in enumerate(times, 1)]
        assert seen == sorted(expected, reverse=True)

    asyncio.run(play())


async def test_a_summary_counts_files_once_and_bytes_exactly(database, audit):
    sender, other = add_instance(database), add_instance(database, "bob")
    acts = [("open", "a", 0), ("read", "a", 2**43), ("read", "a", 3), ("open", "a", 0)]
    acts += [("open", "b", 0), ("release", "a", 0), ("denied", "c", 0)]
    await audit.send(
        sender, 1, [make_line(n, act=a, path=p, len=size) for n, (a, p, size) in enumerate(acts, 1)]
    )
    await audit.send(other, 1, make_lines(1, 3, owner="bob"))
    await audit.wait_indexed(sender, len(acts))
    await audit.wait_indexed(other, 3)
    mine = {"files": 2, "opens": 3, "reads": 2, "bytes": 2**43 + 3, "last_us": AT_US + 7}
    assert await audit.ask("summary", owner="alice") == mine
    assert await audit.ask("summary", instance=sender.instance_id) == mine
    nothing = {"files": 0, "opens": 0, "reads": 0, "bytes": 0, "last_us": None}
    assert await audit.ask("summary", owner="nobody") == nothing
    assert (await audit.ask("summary"))["reads"] == 5


@pytest.mark.parametrize(
    "query",
    [
        "reads?ownr=alice",
        "reads?owner=",
        "reads?owner=alice&owner=bob",
        "reads?owner=%ff",
        "reads?path=a%00b",
        "reads?limit=0",
        "reads?limit=1001",
        "reads?limit=many",
        "reads?since_us=-1",
        "reads?until_us=1e9",
        "reads?before=1",
        "reads?before=1.x.y",
        "reads?pid=one",
        "readers?path=a",
        "readers?dataset=dicom",
        "files?dataset=dicom",
        "files?owner=alice&limit=0",
        "manifests/i-1?owner=alice",
        "summary?dataset=dicom",
        "streams/a:b?limit=1",
        "streams/a",
    ],
)
async def test_a_question_that_is_not_understood_is_refused(audit, query):
    response = await audit.http.get(f"api/{query}", headers=CONSOLE)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_input")


@pytest.mark.parametrize("token", ["the-metering", "of-alice", "garbage", ""])
async def test_only_the_console_may_ask(database, audit, token):
    sender = add_instance(database)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for route in ("reads", "summary", f"streams/{sender.stream_id}"):
        assert (await audit.http.get(f"api/{route}", headers=headers)).status_code == 403
    own = {"Authorization": f"Bearer {sender.credential}"}
    assert (await audit.http.get("api/reads", headers=own)).status_code == 403


async def test_a_stream_says_how_far_it_is_stored_and_indexed(database, tmp_path):
    sender = add_instance(database)
    state = tmp_path / "state"
    async with audit_service(database, state, without_index) as audit:
        unknown = await audit.http.get(f"api/streams/{sender.stream_id}", headers=CONSOLE)
        assert unknown.status_code == 404
        await audit.send(sender, 1, make_lines(1, 3))
        await audit.send(sender, 4, make_lines(4, 9))
        route = f"streams/{sender.stream_id}"
        assert await audit.ask(route) == {"last_seq": 9, "indexed_seq": 0}
    async with audit_service(database, state) as audit:
        await audit.wait_indexed(sender, 9)
        assert await audit.ask(route) == {"last_seq": 9, "indexed_seq": 9}


def without_index(context):
    made = service.make(context)
    return replace(made, loops=[loop for loop in made.loops if loop.name != "index"])
