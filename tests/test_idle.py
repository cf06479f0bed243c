"""Who is in use is kept; who is not is warned twice, then stopped with the reason."""

import json
import os
import signal
import subprocess
import time
from datetime import timedelta
from typing import Any

import pytest

from nightingale_hub.activity import find_activity, judge, keep, parse_report, take_report
from nightingale_hub.culler import Arbiter, make_policy
from nightingale_hub.database import Database
from nightingale_hub.errors import BadInput
from nightingale_hub.idle import FRESH_US, Policy, Use, Verdict, decide, find_use
from nightingale_hub.instance.programs import count_programs
from nightingale_hub.instances import get, list_progress
from nightingale_hub.notices import list_notices
from nightingale_hub.processes import list_descendants
from nightingale_hub.settings import NightingaleHub
from tests.record import S, add_instance

NOTHING: dict[str, Any] = {
    "busy_kernels": 0,
    "programs": 0,
    "gpu_percent": None,
    "read_us": None,
    "asked_us": None,
    "unknown": [],
}
HOUR = 3600 * S
POLICY = Policy(timeout_us=HOUR, ceiling_us=24 * HOUR, warn_us=900 * S)


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


def known(conn, key):
    row = find_activity(conn, key)
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("changed", "use"),
    [
        ({}, ""),
        ({"busy_kernels": 1}, "1 busy kernel"),
        ({"programs": 2}, "2 programs in a terminal or left running"),
        ({"gpu_percent": 9.9}, ""),
        ({"gpu_percent": 10.0}, "the GPU at 10 %"),
        ({"read_us": 5}, "reads of a dataset"),
        ({"read_us": 4}, ""),
        ({"asked_us": 9}, "somebody at its pages"),
        ({"busy_kernels": None}, None),
        ({"programs": None}, None),
        ({"unknown": ["gpu: nvidia-smi hangs"]}, None),
        ({"busy_kernels": None, "programs": 1}, "1 program in a terminal or left running"),
    ],
)
def test_each_kind_of_use_is_seen_and_what_cannot_be_told_is_unknown(changed, use):
    assert find_use({**NOTHING, **changed}, {**NOTHING, "read_us": 4, "asked_us": 8}) == use


def test_the_first_report_takes_no_old_read_or_request_for_use():
    assert find_use({**NOTHING, "read_us": 5, "asked_us": 5}, None) == ""


def test_what_was_asked_before_the_server_answered_is_no_use_of_it():
    blind = {**NOTHING, "asked_us": None, "busy_kernels": None}
    assert find_use({**NOTHING, "asked_us": 5}, blind) == ""
    assert find_use({**NOTHING, "asked_us": 6}, {**NOTHING, "asked_us": 5}) != ""


def idle(for_us, **changed):
    """Return the decision about an instance that was idle for *for_us*."""
    at_us = 100 * HOUR
    values = {"ready_us": at_us - for_us, "report": NOTHING, "told_us": at_us, **changed}
    return decide(Use(**values), POLICY, at_us)


@pytest.mark.parametrize(
    ("for_us", "changed", "verdict"),
    [
        (HOUR - 901 * S, {}, "keep"),
        (HOUR - 900 * S, {}, "warn"),
        (HOUR - 301 * S, {"warned": 1}, "keep"),
        (HOUR - 300 * S, {"warned": 1}, "warn"),
        (HOUR - 1, {"warned": 2, "warned_us": 0}, "keep"),
        (HOUR, {"warned": 2, "warned_us": 0}, "stop"),
        # Whoever looks late still warns twice, and waits after the second.
        (50 * HOUR, {}, "warn"),
        (50 * HOUR, {"warned": 1}, "warn"),
        (50 * HOUR, {"warned": 2, "warned_us": 100 * HOUR - 299 * S}, "keep"),
        (50 * HOUR, {"warned": 2, "warned_us": 100 * HOUR - 300 * S}, "stop"),
        # Unknown is in use, up to the ceiling.
        (23 * HOUR, {"warned": 2, "warned_us": 0, "told_us": None}, "keep"),
        (24 * HOUR, {"warned": 2, "warned_us": 0, "told_us": None}, "stop"),
        (2 * HOUR, {"warned": 2, "warned_us": 0, "told_us": 100 * HOUR - FRESH_US - 1}, "keep"),
        (2 * HOUR, {"warned": 2, "warned_us": 0, "report": {**NOTHING, "programs": None}}, "keep"),
        # Its owner's word.
        (50 * HOUR, {"warned": 2, "warned_us": 0, "keep_until_us": 100 * HOUR + 1}, "keep"),
        (50 * HOUR, {"warned": 2, "warned_us": 0, "keep_until_us": 100 * HOUR - 1}, "keep"),
        # Seen in use, or its owner seen by the hub.
        (50 * HOUR, {"active_us": 100 * HOUR - 60 * S}, "keep"),
        (50 * HOUR, {"pages_us": 100 * HOUR - 60 * S}, "keep"),
    ],
)
def test_what_happens_follows_from_how_long_it_was_idle_and_how_often_warned(
    for_us, changed, verdict
):
    assert idle(for_us, **changed).verdict == verdict


def test_the_reason_says_for_how_long_and_what_it_was_last_used_for():
    said = idle(50 * HOUR, active_us=98 * HOUR, why="the GPU at 90 %").reason
    assert said == (
        "no kernel, terminal, GPU or dataset was in use for 2 h 0 min; last was the GPU at 90 %"
    )
    assert idle(50 * HOUR, told_us=None).reason == (
        "nobody can tell whether it was in use for 50 h 0 min"
    )


def test_a_timeout_of_zero_stops_nothing():
    never = Policy(0, 0, 0)
    use = Use(ready_us=0, report=NOTHING, told_us=10**15, warned=2, warned_us=0)
    assert decide(use, never, 10**15).verdict == "keep"


def test_an_owner_is_warned_twice_with_the_reason_and_then_it_stops(conn):
    key = add_instance(conn, ready_us=0)
    seen = []
    for at_us in range(0, 2 * HOUR, 60 * S):
        take_report(conn, key, NOTHING, [], at_us)
        decision = judge(conn, "alice", "", at_us, POLICY, at_us)
        if decision.verdict != Verdict.KEEP:
            seen.append((decision.verdict, at_us // (60 * S)))
    assert seen[:3] == [("warn", 45), ("warn", 55), ("stop", 60)]
    row = get(conn, key)
    assert (row.wanted, row.cause) == ("stopped", "idle")
    assert row.reason.startswith("idle: no kernel, terminal, GPU or dataset was in use for 1 h")
    told = [line.message for line in list_progress(conn, key)]
    assert [each.startswith("It will be stopped soon: no kernel") for each in told] == [
        True,
        True,
        False,
    ]
    assert "nightingale extend" in told[0]
    notices = list_notices(conn, "alice")
    assert [(each.kind, each.body) for each in notices] == [("idle", told[1]), ("idle", told[0])]


def test_use_takes_the_warnings_back(conn):
    key = add_instance(conn, ready_us=0)
    take_report(conn, key, NOTHING, [], HOUR)
    judge(conn, "alice", "", 0, POLICY, HOUR)
    assert known(conn, key).warned == 1
    take_report(conn, key, {**NOTHING, "busy_kernels": 1}, [], HOUR + S)
    row = known(conn, key)
    assert (row.warned, row.active_us, row.why) == (0, HOUR + S, "1 busy kernel")


def test_a_lease_holds_as_long_as_it_says(conn):
    key = add_instance(conn, ready_us=0)
    take_report(conn, key, NOTHING, [], HOUR)
    assert keep(conn, key, 2 * HOUR, HOUR) == 3 * HOUR
    take_report(conn, key, NOTHING, [], 3 * HOUR - S)
    assert judge(conn, "alice", "", 0, POLICY, 3 * HOUR - S).verdict == Verdict.KEEP
    assert known(conn, key).warned == 0


@pytest.mark.parametrize("state", ["booting", "stopping", "stopped"])
def test_what_does_not_run_is_left_alone(conn, state):
    add_instance(conn, actual=state, ready_us=0)
    assert judge(conn, "alice", "", 0, POLICY, 100 * HOUR).verdict == Verdict.KEEP


def test_a_lost_server_is_marked_crashed_with_the_reason_and_its_owner_told(conn):
    key = add_instance(conn)
    take_report(conn, key, NOTHING, ["server_exited: out of memory; choose a larger size"], 5)
    assert get(conn, key).wanted == "running"
    take_report(conn, key, NOTHING, ["server_lost: out of memory; choose a larger size"], 6)
    row = get(conn, key)
    assert (row.wanted, row.cause) == ("stopped", "crashed")
    assert row.reason == "crashed: out of memory; choose a larger size"
    said = [line.message for line in list_progress(conn, key)]
    assert said[0] == ("The server ended and is started again: out of memory; choose a larger size")
    assert [each.kind for each in list_notices(conn, "alice")] == ["error", "error"]


@pytest.mark.parametrize(
    "changed",
    [
        {"busy_kernels": -1},
        {"busy_kernels": True},
        {"busy_kernels": "${file('/etc/passwd')}"},
        {"gpu_percent": "high"},
        {"gpu_percent": 2**60},
        {"faults": "; rm -rf /"},
        {"faults": ["x" * 301]},
        {"faults": ["x"] * 21},
        {"unknown": None},
        {"../": 1},
    ],
)
def test_a_report_that_is_none_is_refused(changed):
    with pytest.raises(BadInput):
        parse_report({**NOTHING, "faults": [], **changed})


def test_a_report_comes_through_as_it_is():
    assert parse_report({**NOTHING, "gpu_percent": 12.5, "faults": ["a"]}) == (
        {**NOTHING, "gpu_percent": 12.5},
        ["a"],
    )


async def test_the_culler_is_told_by_the_record_and_stops_nothing_without_it(database, tmp_path):
    settings = NightingaleHub(idle_timeout_s=10, idle_warn_s=3)
    assert make_policy(settings) == Policy(10 * S, 86_400 * S, 3 * S)
    at_us = 1000 * S
    with database.write() as conn:
        key = add_instance(conn, owner="o.hara@x.org", server_name="gpu", ready_us=at_us - 60 * S)
        take_report(conn, key, NOTHING, [], at_us)
    server = {"full_name": "o.hara@x.org/gpu"}
    clock = [at_us]
    arbiter = Arbiter(database, settings, lambda: clock[0])

    async def ask(arbiter):
        return await arbiter(inactive=timedelta(hours=9), inactive_limit=10, server=server)

    assert not await ask(arbiter) and not await ask(arbiter)
    with database.read() as conn:
        assert known(conn, key).warned == 2
    clock[0] += S
    assert await ask(arbiter)
    with database.read() as conn:
        assert get(conn, key).cause == "idle"
    away = Database(f"sqlite:///{tmp_path / 'no' / 'such.sqlite'}")
    assert not await ask(Arbiter(away, settings))
    away.dispose()


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("sleep 60 & wait", 1),  # a program in a shell
        ("exec sleep 60", 0),  # a helper of the server's own
        ("true; read x", 0),  # an idle shell
        ("exec -a ipykernel_launcher bash -c 'sleep 60 & wait'", 0),  # the kernel's own
    ],
)
def test_programs_are_told_from_kernels_shells_and_helpers(script, count):
    server = subprocess.Popen(
        ["bash", "-c", f"bash -c {json.dumps(script)} & wait"], stdin=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 10
        found = []
        for _ in range(3):  # what is being started is let come to rest
            found.append(count_programs(server.pid, _list_below(server.pid)))
            time.sleep(0.3)
        while found[-1] != count and time.monotonic() < deadline:
            found.append(count_programs(server.pid, _list_below(server.pid)))
            time.sleep(0.1)
        assert found[-1] == count
    finally:
        for pid in _list_below(server.pid):
            os.kill(pid, signal.SIGKILL)
        server.kill()
        server.wait()
        assert server.stdin is not None
        server.stdin.close()


def _list_below(pid):
    return [each.pid for each in list_descendants(pid)]


def test_a_program_that_was_left_running_counts():
    left = subprocess.Popen(["sleep", "60"])
    try:
        assert count_programs(1, [left.pid]) == 1
        assert count_programs(None, [left.pid]) == 1
    finally:
        left.kill()
        left.wait()
    assert count_programs(None, [left.pid]) == 0
