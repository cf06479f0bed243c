"""A daemon that lives and answers nothing is followed by one that does, within a bound."""

import signal
import subprocess
import sys
import time

import pytest

from tests.audit_mount import LIMIT_S, AuditMount

# What production waits longer for.
BOUNDS = """
import sys
from nightingale_hub.fuse_audit import __main__, daemon, supervisor
supervisor.HANGS_S, daemon.STUCK_AFTER_S = 1.0, 0.5
"""
SERVE = "sys.exit(__main__.main(sys.argv[1:]))\n"
# The first daemon's workers wait for each other, all of them, at their first read.
DEADLOCK = """
import mmap, threading
from nightingale_hub.fuse_audit.gate import Gate
is_over = mmap.mmap(-1, 1)  # Shared by all that are forked.
main = daemon.serve
def serve(*arguments):
    if not is_over[0]:
        is_over[0] = 1
        Gate.read = lambda *_, **__: threading.Event().wait()
    main(*arguments)
daemon.serve = serve
"""
READ = "import os, sys; os.pread(os.open(sys.argv[1], os.O_RDONLY), 6, 0)"


def start(mount: AuditMount, code: str) -> None:
    mount.start([sys.executable, "-c", code])
    (mount.data / "f").write_bytes(b"pixels")


def read_by(count: int, mount: AuditMount) -> "list[subprocess.Popen[bytes]]":
    command = [sys.executable, "-S", "-c", READ, str(mount.top / "f")]
    return [subprocess.Popen(command) for _ in range(count)]


def wait_followed(mount: AuditMount, old: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while mount.daemon_pid in (old, mount.process.pid):
        assert time.monotonic() < deadline, "the daemon was not followed"
        time.sleep(0.05)


@pytest.fixture
def mount(tmp_path):
    it = AuditMount(tmp_path)
    yield it
    it.clean()


def test_a_daemon_that_is_stopped_is_followed_and_its_readers_are_answered(mount):
    start(mount, BOUNDS + SERVE)
    old = mount.stop_daemon()
    (reader,) = read_by(1, mount)
    wait_followed(mount, old)
    assert reader.wait(LIMIT_S) == 0
    assert mount.stop() == 0
    assert [(event["off"], event["len"]) for event in mount.events("read")] == [(0, 6)]
    assert "answers nothing" in mount.errors.read_text()


def test_a_daemon_whose_workers_are_all_stuck_is_followed_and_nothing_is_lost(mount):
    start(mount, BOUNDS + DEADLOCK + SERVE)
    old = mount.daemon_pid
    readers = read_by(6, mount)
    wait_followed(mount, old)
    assert [reader.wait(LIMIT_S) for reader in readers] == [0] * 6
    assert mount.stop() == 0
    readings = [(event["pid"], event["len"]) for event in mount.events("read")]
    assert sorted(readings) == sorted((reader.pid, 6) for reader in readers)
    assert len(mount.events("open")) == len(mount.events("release")) == 6


def test_one_that_is_idle_or_waits_for_one_slow_read_is_left_alone(mount):
    start(mount, BOUNDS + DEADLOCK + SERVE)
    old = mount.daemon_pid
    (reader,) = read_by(1, mount)
    time.sleep(2.5)
    assert mount.daemon_pid == old
    assert reader.poll() is None
    mount.kill_daemon()
    assert reader.wait(LIMIT_S) == 0


def test_a_supervisor_that_slept_does_not_take_its_daemon_for_hung(mount):
    start(mount, BOUNDS + SERVE)
    old = mount.daemon_pid
    mount.process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    mount.process.send_signal(signal.SIGCONT)
    assert (mount.top / "f").read_bytes() == b"pixels"
    time.sleep(1)
    assert mount.daemon_pid == old


def test_the_bounds_of_production_are_seconds():
    from nightingale_hub.fuse_audit import daemon, supervisor

    assert supervisor.HANGS_S + daemon.STUCK_AFTER_S <= 60
