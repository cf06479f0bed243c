"""Copiers are found, researchers are not, whoever claims to be what."""

import json
import random
from dataclasses import replace

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nightingale_hub.audit_chain import Signer, begin
from nightingale_hub.services.audit.batch import Batch as Sent
from nightingale_hub.services.audit.batch import hash_lines
from nightingale_hub.services.audit.detect import backtest, counts
from nightingale_hub.services.audit.detect.coverage import MOST_INTERVALS, cover
from nightingale_hub.services.audit.detect.detector import Detector, dump, load
from nightingale_hub.services.audit.detect.reader import name_tool
from nightingale_hub.services.audit.detect.rules import RULES
from nightingale_hub.services.audit.frame import encode
from nightingale_hub.services.audit.segments import Segments
from tests import scenarios
from tests.scenarios import COPIERS, HOUR, LOADERS, MIN, START, Person, World, epochs, play
from tests.soak import detectors as soak

SEEDS = range(3)


@pytest.mark.parametrize("name", COPIERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_copier_is_found_by_the_rule_that_is_there_for_it(name, seed):
    make, rule = COPIERS[name]
    world, sessions, outs, thieves = make(seed)
    found = play(Detector(world), sessions, outs)
    assert {each.owner for each in found if each.rule == rule} == thieves
    assert {each.owner for each in found} == thieves


@pytest.mark.parametrize("seed", SEEDS)
def test_a_month_of_training_raises_one_false_alert_at_most(seed):
    world, sessions = scenarios.month_of_training(seed)
    found = play(Detector(world), sessions)
    assert len(found) <= 1, found


@pytest.mark.parametrize("loader", LOADERS)
def test_two_epochs_of_any_loader_over_a_new_dataset_are_no_sweep(loader):
    world = World(random.Random(7))
    sessions, _ = epochs(Person(world, "alice", random.Random(7)), START, 3, loader)
    assert play(Detector(world), sessions) == []


def test_a_first_epoch_and_a_shuffled_copy_are_one_until_the_second_epoch():
    for reads_again in (True, False):
        world = World(random.Random(3))
        person = Person(world, "alice", random.Random(3))
        parts = [person.run(random.Random(1).sample(world.paths, 400), START, 1.0)]
        ended = START + 400 * scenarios.S
        if reads_again:
            parts.append(person.run(random.Random(2).sample(world.paths, 400), ended, 1.0))
        detector = Detector(world)
        early = play(detector, parts, idle_us=MIN)
        assert early == []
        late = [f for at in range(1, 120) for f in detector.tick(ended + at * 10 * MIN)]
        assert {each.rule for each in late} == (set() if reads_again else {"R2", "R3"})


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_a_copier_who_reads_some_of_it_again_is_still_found(share):
    world = World(random.Random(5))
    thief = Person(world, "mallory", random.Random(5))
    again = random.Random(6).sample(world.paths, int(400 * share))
    found = play(Detector(world), [thief.run(world.paths + again, START, 5)])
    assert "R3" in {each.rule for each in found}


def test_reading_each_file_twice_at_once_is_no_second_epoch():
    world = World(random.Random(5))
    thief = Person(world, "mallory", random.Random(5))
    twice = [path for path in world.paths for _ in range(2)]
    found = play(Detector(world), [thief.run(twice, START, 5)])
    assert "R3" in {each.rule for each in found}


def test_what_is_sent_out_is_raised_while_it_goes_on():
    world = World(random.Random(8), mean_bytes=2 << 20)
    thief = Person(world, "mallory", random.Random(8))
    detector = Detector(world)
    outs = [("mallory", START + 10 * MIN, 600 << 20)]
    found = play(detector, [thief.run(world.paths, START, 0.5)], outs, idle_us=MIN)
    assert {"R6", "R3"} <= {each.rule for each in found}
    assert min(each.until_us for each in found if each.rule == "R6") < START + 12 * MIN


def test_what_the_kernel_saw_leave_counts_once_however_often_it_is_told():
    world = World(random.Random(8), mean_bytes=1 << 20)
    thief = Person(world, "mallory", random.Random(8))
    detector = Detector(world)
    detector.feed(thief.run(world.paths[:100], START, 2), "i-1:b-1", START)

    def tell(offset, length, kind="hub"):
        [event, *_] = thief.read(world.paths[0], START)
        sent = {"act": "egress", "ds": "", "path": kind, "off": offset, "len": length}
        detector.feed([msgspec.structs.replace(event, **sent)], "i-1:b-1", START)

    tell(0, 30 << 20)
    tell(0, 30 << 20)
    tell(0, 900 << 20, "local")
    assert detector.tick(START + MIN) == []
    tell(30 << 20, 30 << 20)
    assert {each.rule for each in detector.tick(START + 2 * MIN)} >= {"R6"}
    tell(60 << 20, 1 << 30, "other")
    assert {each.rule for each in detector.tick(START + 3 * MIN)} == {"R8"}
    assert set(detector.state.readers) == {"ct"}


@settings(max_examples=20, deadline=None)
@given(
    exe=st.text(max_size=20),
    name=st.text(min_size=1, max_size=10),
    pid=st.integers(0, 2**32 - 1),
)
def test_no_name_of_a_program_a_person_or_a_process_hides_a_copy(exe, name, pid):
    world = World(random.Random(1), count=80, mean_bytes=4096)
    thief = Person(world, name, random.Random(1), exe=exe)
    events = [
        msgspec.structs.replace(event, pid=pid, uid=pid)
        for event in thief.run(world.paths, START, 9)
    ]
    assert "R3" in {each.rule for each in play(Detector(world), [events])}


@pytest.mark.parametrize(
    ("executable", "tool"),
    [
        ("/usr/bin/tar", "tar"),
        ("/bin/tar-1.34 (deleted)", "tar"),
        ("/opt/rclone/rclone", "rclone"),
        ("/usr/bin/python3.11", ""),
        ("scp", "scp"),
        ("/home/alice/tar/train", ""),
        ("", ""),
    ],
)
def test_a_copy_tool_is_known_by_its_own_name_only(executable, tool):
    assert name_tool(executable) == tool


def test_a_honeyfile_that_is_only_opened_is_told_apart_and_is_not_named_to_its_reader():
    world = World(random.Random(2))
    path = world.plant("mallory")
    thief = Person(world, "mallory", random.Random(2))
    opened, *rest = thief.read(path, START)
    detector = Detector(world)
    [first] = detector.feed([opened], "i-1:b-1", START)
    [second] = detector.feed(rest, "i-1:b-1", START)
    assert (first.rule, first.severity) == ("H1", "high")
    assert (second.rule, second.severity) == ("H1", "critical")
    assert path not in first.reason + second.reason
    assert second.facts["path"] == path
    other = Person(world, "bob", random.Random(2))
    assert detector.feed(other.read(path, START), "i-2:b-1", START) == []


def test_a_refused_open_of_a_honeyfile_counts_and_reads_nothing():
    world = World(random.Random(2))
    thief = Person(world, "mallory", random.Random(2))
    event = msgspec.structs.replace(thief.read(world.plant("mallory"), START)[0], act="denied")
    detector = Detector(world)
    assert [each.rule for each in detector.feed([event], "i-1:b-1", START)] == ["H1"]
    assert detector.state.readers == {}


def test_an_event_of_the_future_is_told_and_moves_no_window():
    world = World(random.Random(2))
    person = Person(world, "alice", random.Random(2))
    detector = Detector(world)
    ahead = person.read(world.paths[0], START + 2 * HOUR)
    found = detector.feed(ahead, "i-1:b-1", START)
    assert [(each.rule, each.severity) for each in found] == [("A1", "medium")]
    reader = detector.state.readers["ct"]["alice"]
    assert reader.newest == START // MIN


def test_records_that_come_late_are_told_and_still_counted_in_their_own_time():
    world = World(random.Random(4))
    thief = Person(world, "mallory", random.Random(4), exe="/usr/bin/tar")
    detector = Detector(world)
    found = list(detector.feed(thief.run(world.paths, START, 20), "i-1:b-1", START + 5 * HOUR))
    found += detector.tick(START + 5 * HOUR)
    assert {"A1", "R5"} <= {each.rule for each in found}
    [tools] = [each for each in found if each.rule == "R5"]
    assert tools.until_us < START + HOUR


def test_a_detector_that_died_goes_on_as_if_it_had_not():
    make, _ = COPIERS["split_over_two"]
    world, sessions, _, _ = make(11)
    events = sorted((event for session in sessions for event in session), key=lambda e: e.ts)
    expected = {each.key for each in play(Detector(world), [events])}
    middle = len(events) // 2
    first = Detector(world)
    found = play(first, [events[:middle]], idle_us=1)
    second = Detector(world, load(dump(first.state)))
    found += play(second, [events[middle:]])
    assert {each.key for each in found} == expected


def test_rules_are_run_over_stored_segments(tmp_path, capsys):
    make, _ = COPIERS["with_tar"]
    _, sessions, _, _ = make(1)
    segments = Segments(tmp_path / "a" / "b" / "segments", epoch=1)
    events = [event for session in sessions for event in session]
    signer = Signer(b"k" * 32)
    chain = begin("i-1:b-1", signer.public_key)
    for start in range(0, len(events), 500):
        part = events[start : start + 500]
        lines = b"".join(msgspec.json.encode(event) + b"\n" for event in part)
        seal = signer.seal(chain, part[0].seq, lines[:-1].split(b"\n"))
        chain = seal.chain
        sent = Sent(
            "i-1:b-1", "i-1", "mallory", part[0].seq, part[-1].seq, hash_lines(lines),
            zstandard.compress(lines), seal, signer.public_key, start // 500 + 1,
        )  # fmt: skip
        segments.append([encode(sent, part[-1].ts)])
    segments.close()
    assert backtest.main([str(segments.directory), "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rules = {each["key"].partition("/")[0] for each in said}
    assert {"R5", "R3"} <= rules
    catalogue = backtest.SeenExtents(backtest.load_batches(segments.directory))
    deaf = replace(RULES[1], version=2, tool_files=10**9, tool_bytes=1 << 60)
    found = backtest.backtest(backtest.load_batches(segments.directory), catalogue, deaf)
    assert "R5" not in {each.rule for each in found}
    assert backtest.main([str(tmp_path / "none")]) == 2


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=40))
def test_coverage_counts_each_byte_once(reads):
    intervals: list[int] = []
    truth: set[int] = set()
    for start, length in reads:
        wanted = set(range(start, start + length)) - truth
        assert cover(intervals, start, start + length) == len(wanted)
        truth |= wanted
    assert intervals == sorted(set(intervals))
    pairs = zip(intervals[::2], intervals[1::2], strict=True)
    assert {byte for low, high in pairs for byte in range(low, high)} == truth


def test_coverage_of_a_file_that_is_read_in_crumbs_stays_small():
    intervals: list[int] = []
    for start in range(0, 10_000, 2):
        cover(intervals, start, start + 1)
    assert len(intervals) <= 2 * MOST_INTERVALS


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 9)), max_size=50),
    st.integers(0, 500),
    st.integers(0, 500),
)
def test_a_window_sums_the_same_in_any_order(added, first, last):
    forward: counts.Minutes = {}
    backward: counts.Minutes = {}
    for minute, amount in added:
        counts.add(forward, minute, amount)
    for minute, amount in reversed(added):
        counts.add(backward, minute, amount)
    truth = sum(amount for minute, amount in added if first <= minute <= last)
    assert counts.total(forward, first, last) == counts.total(backward, first, last) == truth


def test_a_sample_of_the_soak_meets_every_bar():
    text, is_well = soak.run(2, seed=3)
    assert is_well, text


def test_the_soak_fails_when_a_copier_is_missed(monkeypatch):
    make, _ = COPIERS["fan_out"]
    monkeypatch.setattr(soak, "COPIERS", {"fan_out": (make, "R3")})
    assert not soak.run(1, seed=3)[1]
