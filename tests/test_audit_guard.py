"""The guard: what is refused while records do not reach the hub, and that the user sees why."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from nightingale_hub.audit_notes import Notes, load_notes, read_clock, save_notes
from nightingale_hub.errors import ConfigError
from nightingale_hub.fuse_audit import spool as spool_module
from nightingale_hub.fuse_audit.egress import Egress
from nightingale_hub.fuse_audit.guard import STATE_FILE, Guard, State
from nightingale_hub.fuse_audit.limits import Limits, parse_limits
from nightingale_hub.fuse_audit.receipt import save_receipt
from nightingale_hub.fuse_audit.spool import Spool
from tests.audit_mount import LIMIT_S, AuditMount, audit_mount, fail_of, read_events
from tests.audit_service import Service, Shipping

LARGE = 1 << 30


class Clock:
    """Goes on only as it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Guarded:
    """A guard over a spool, without a mount."""

    def __init__(self, place: Path, limits: Limits, limit_bytes: int = LARGE) -> None:
        self.directory = place / "spool"
        self.spool = Spool(str(self.directory), limit_bytes)
        self.clock = Clock()
        self.limits = limits
        self.guard = self.begin()

    def begin(self) -> Guard:
        return Guard(self.spool, str(self.directory), self.limits, clock=self.clock)

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            at_us = time.time_ns() // 1000
            self.spool.append(b'"ts":%d}' % at_us, may_pass_limit=True)

    def pass_time(self, seconds: float) -> State:
        ends = self.clock.now_s + seconds
        while self.clock.now_s < ends:
            self.clock.now_s = min(ends, self.clock.now_s + 1)
            self.guard.look()
        return self.guard.state


@pytest.fixture
def guarded(tmp_path):
    it = Guarded(tmp_path, Limits())
    yield it
    it.spool.close()


def wait_until(is_so, explain=lambda: "it did not come to be"):
    ends = time.monotonic() + LIMIT_S
    while not (found := is_so()):
        assert time.monotonic() < ends, explain()
        time.sleep(0.05)
    return found


def test_the_gate_closes_step_by_step_as_the_oldest_record_waits(guarded):
    guarded.pass_time(5000)
    guarded.write()  # After a long silence: it waits from now on.
    assert guarded.pass_time(60) is State.SERVED
    assert guarded.pass_time(2) is State.OPENS_REFUSED
    assert not guarded.guard.refuses_reads
    assert "has not stored the oldest record for 62 s; the limit is 60 s" in guarded.guard.why
    assert guarded.pass_time(840) is State.READS_REFUSED
    assert guarded.guard.refuses_reads
    assert guarded.pass_time(2700) is State.STOPPING
    said = json.loads((guarded.directory / STATE_FILE).read_text())
    assert (said["state"], said["says"]) == ("stopping", State.STOPPING.value)
    assert "the limit is 3600 s" in said["why"]


def test_it_opens_by_itself_once_the_hub_has_what_waited(guarded):
    guarded.write(3)
    assert guarded.pass_time(100) is State.OPENS_REFUSED
    save_receipt(str(guarded.directory), 2)
    assert guarded.pass_time(1) is State.OPENS_REFUSED  # The third is as old.
    save_receipt(str(guarded.directory), 3)
    assert guarded.pass_time(1) is State.SERVED
    assert guarded.guard.why == ""


def test_a_hub_that_keeps_up_a_little_behind_closes_nothing(guarded):
    for seq in range(1, 500):
        guarded.write()
        save_receipt(str(guarded.directory), max(0, seq - 30))
        assert guarded.pass_time(1) is State.SERVED
    assert 29 <= guarded.guard.oldest_s <= 32


def test_a_mount_that_starts_anew_knows_how_long_its_oldest_record_waits(guarded):
    at_us = time.time_ns() // 1000 - 100 * 1_000_000
    guarded.spool.append(b'"ts":%d}' % at_us, may_pass_limit=True)
    guarded.guard = guarded.begin()
    assert guarded.guard.state is State.OPENS_REFUSED
    save_receipt(str(guarded.directory), 1)
    guarded.guard = guarded.begin()
    assert guarded.guard.state is State.SERVED


def test_a_spool_four_fifths_full_refuses_opens_until_it_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 2000)
    it = Guarded(tmp_path, Limits(), limit_bytes=20_000)
    while it.spool.measure_percent() <= 80:
        assert it.pass_time(0.01) is State.SERVED
        it.write(10)
    assert it.pass_time(0.01) is State.OPENS_REFUSED
    assert "% full; the limit is 80 %" in it.guard.why
    for file in sorted(it.directory.glob("0*.ndjson"))[:-1]:
        file.unlink()
    assert it.pass_time(0.01) is State.SERVED
    it.spool.close()


def test_data_is_served_only_while_somebody_counts_what_is_sent(tmp_path):
    it = Guarded(tmp_path, Limits(counts_egress=True))
    assert it.guard.state is State.OPENS_REFUSED
    assert "not in force" in it.guard.why
    save_notes(it.directory, Notes(counted_s=it.clock.now_s))
    assert it.pass_time(40) is State.SERVED
    assert it.pass_time(10) is State.OPENS_REFUSED
    it.spool.close()


def test_a_guard_that_cannot_look_closes_the_gate(guarded, monkeypatch):
    monkeypatch.setattr("nightingale_hub.fuse_audit.guard.LOOK_EVERY_S", 0.01)

    def fail(_directory: str) -> None:
        raise RuntimeError("a mistake")

    guarded.guard.start()
    monkeypatch.setattr("nightingale_hub.fuse_audit.guard.find_receipt", fail)
    wait_until(lambda: guarded.guard.refuses_opens)
    assert guarded.guard.why == "the guard of the mount failed"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"refuse_opens_after_s": 0}, "must be above 0"),
        ({"refuse_opens_after_s": 1000}, "each at least the one before"),
        ({"stop_after_s": "soon"}, "guard.stop_after_s is 'soon'"),
        ({"spool_full_percent": 101}, "must be from 1 to 100"),
        ({"reader_uid": -1}, "guard.reader_uid is -1"),
        ({"counts_egress": 1}, "guard.counts_egress is 1"),
        ({"colour": 1}, "guard.colour is unknown"),
        ([], "guard must be an object"),
    ],
)
def test_a_wrong_limit_is_refused_by_name(values, says):
    with pytest.raises(ConfigError, match=says):
        parse_limits(values)


def test_notes_that_are_torn_say_nothing(tmp_path):
    notes = Notes(frozenset({"d"}), (("hub", 5), ("other", 7)), 3.5)
    save_notes(tmp_path, notes)
    assert load_notes(tmp_path) == notes
    for text in ("", "[]", '{"withdrawn": 5}', '{"withdrawn": [], "sent": {"hub": "x"}}'):
        (tmp_path / "notes.json").write_text(text)
        assert load_notes(tmp_path) == Notes()


def test_what_was_sent_is_recorded_once_over_restarts(tmp_path):
    directory = str(tmp_path / "spool")
    for sums in ((("hub", 10), ("other", 0)), (("hub", 10),), (("hub", 25), ("other", 7))):
        spool = Spool(directory, LARGE)
        egress = Egress(spool, directory, "alice", 1000, lambda: 5)
        egress.take(Notes(sent=sums))
        egress.take(Notes(sent=sums))
        spool.close()
        del spool, egress
    events = read_events(tmp_path / "spool")
    assert [(e["act"], e["path"], e["off"], e["len"], e["uid"]) for e in events] == [
        ("egress", "hub", 0, 10, 1000),
        ("egress", "hub", 10, 15, 1000),
        ("egress", "other", 0, 7, 1000),
    ]


LADDER = {"refuse_opens_after_s": 1, "refuse_reads_after_s": 3, "stop_after_s": 60}


def read_status(mount: AuditMount) -> str:
    return (mount.mountpoint / "AUDIT-STATUS.txt").read_text()


@pytest.mark.parametrize("adapter", ["kernel", "libfuse"])
def test_a_mount_in_the_dark_refuses_opens_then_reads_and_says_why(tmp_path, adapter):
    with audit_mount(tmp_path, adapter=adapter, guard=LADDER) as mount:
        (mount.data / "f").write_bytes(b"pixels")
        assert "opens and reads are served" in read_status(mount)
        held = os.open(mount.top / "f", os.O_RDONLY)
        opened_too = wait_until(lambda: fail_of(os.open, mount.top / "f", os.O_RDONLY))
        assert opened_too == errno.EIO
        assert "new opens are refused" in read_status(mount)
        assert "has not stored the oldest record" in read_status(mount)
        assert os.pread(held, 6, 0) == b"pixels"
        assert wait_until(lambda: fail_of(os.pread, held, 6, 0)) == errno.EIO
        assert "opens and reads are refused" in read_status(mount)
        service = Service()
        try:
            with Shipping(tmp_path, service.server_port):
                wait_until(lambda: fail_of(os.pread, held, 6, 0) is None)
                wait_until(
                    lambda: (mount.top / "f").exists() and "are served" in read_status(mount)
                )
                assert (mount.top / "f").read_bytes() == b"pixels"
        finally:
            service.shutdown()
            service.server_close()
        os.close(held)
        denied = mount.events("denied")
        assert {event["rc"] for event in denied} == {errno.EIO}
        # The status is the mount's own, and no read of data.
        assert all(event["path"] == "f" for event in mount.events())


@pytest.mark.parametrize("adapter", ["kernel", "libfuse"])
def test_a_dataset_that_is_withdrawn_opens_no_more_within_seconds(tmp_path, adapter):
    with audit_mount(tmp_path, adapter=adapter) as mount:
        (mount.data / "f").write_bytes(b"pixels")
        held = os.open(mount.top / "f", os.O_RDONLY)
        began = time.monotonic()
        save_notes(mount.spool, Notes(withdrawn=frozenset({"d"})))
        assert wait_until(lambda: fail_of(os.open, mount.top / "f", os.O_RDONLY)) == errno.EACCES
        assert time.monotonic() - began < 5
        assert "Withdrawn  d: no longer granted" in read_status(mount)
        os.close(held)
        assert mount.events("denied")[-1]["rc"] == errno.EACCES
        save_notes(mount.spool, Notes())
        wait_until(lambda: fail_of(os.stat, mount.top / "f") is None)
        wait_until(lambda: "Withdrawn" not in read_status(mount))
        assert (mount.top / "f").read_bytes() == b"pixels"


def test_without_a_disk_nothing_is_read_before_the_hub_has_its_record(tmp_path):
    with audit_mount(tmp_path, guard={"waits_for_hub": True}) as mount:
        (mount.data / "f").write_bytes(b"pixels")
        service = Service()
        try:
            with Shipping(tmp_path, service.server_port, is_urgent=True):
                with (mount.top / "f").open("rb", buffering=0) as file:
                    assert [json.loads(each)["act"] for each in service.lines][-1:] == ["open"]
                    assert file.read() == b"pixels"
                    acts = [json.loads(line)["act"] for line in service.lines]
                    assert "read" in acts
        finally:
            service.shutdown()
            service.server_close()


def test_without_a_disk_and_without_a_hub_an_open_fails(tmp_path, monkeypatch):
    with audit_mount(tmp_path, guard={"waits_for_hub": True}) as mount:
        (mount.data / "f").write_bytes(b"pixels")
        assert fail_of(os.open, mount.top / "f", os.O_RDONLY) == errno.EIO


def test_notes_are_on_the_machines_own_clock():
    assert abs(read_clock() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
