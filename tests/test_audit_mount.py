"""The life of an audit mount: it starts, is stopped or killed, and is refused with a reason.

Each test runs on each adapter unless its name says which.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from nightingale_hub.fuse_audit.configuration import DAEMON_UID
from tests.audit_mount import DAEMON, LIMIT_S, AuditMount, audit_mount, fail_of, is_mounted


def test_the_mount_ends_with_its_daemon(mount):
    assert is_mounted(mount.mountpoint)
    assert mount.stop() == 0
    assert not is_mounted(mount.mountpoint)


def test_a_stop_records_the_release_of_what_is_open_and_serves_nothing_more(mount):
    (mount.data / "f").write_bytes(b"x" * 10)
    fd = os.open(mount.top / "f", os.O_RDONLY)
    try:
        assert mount.stop() == 0
        assert fail_of(os.pread, fd, 10, 0) in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
    finally:
        with contextlib.suppress(OSError):  # libfuse wants to be asked at close.
            os.close(fd)
    assert [event["act"] for event in mount.events()] == ["open", "release"]


def test_after_kill_9_the_next_daemon_takes_the_dead_mount_over_and_counts_on(tmp_path, adapter):
    mount = AuditMount(tmp_path, adapter=adapter)
    mount.start()
    try:
        (mount.data / "f").write_bytes(b"x")
        got = 0
        for _ in range(3):
            for _ in range(20):
                assert (mount.top / "f").read_bytes() == b"x"
                got += 1
            mount.kill()
            assert fail_of(os.statvfs, mount.top) == errno.ENOTCONN
            mount.start()
        assert (mount.top / "f").read_bytes() == b"x"
        assert mount.stop() == 0
        assert len(mount.events("open")) == got + 1
        assert len({event["fid"] for event in mount.events("open")}) == got + 1
    finally:
        mount.clean()


def test_kill_9_under_readers_loses_no_byte_that_was_served(tmp_path):
    mount = AuditMount(tmp_path)
    mount.start()
    try:
        (mount.data / "f").write_bytes(os.urandom(1 << 20))
        served: Counter[int] = Counter()
        lock = threading.Lock()

        def read_until_dead(seed: int) -> None:
            fd = os.open(mount.top / "f", os.O_RDONLY)
            offset = seed * 4096
            try:
                while True:
                    os.pread(fd, 4096, offset % (1 << 20))
                    with lock:
                        served[offset % (1 << 20)] += 1
                    offset += 4096
            except OSError:
                pass
            finally:
                os.close(fd)

        threads = [threading.Thread(target=read_until_dead, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        mount.kill()
        for thread in threads:
            thread.join(LIMIT_S)
        assert sum(served.values()) > 100
        recorded = Counter(event["off"] for event in mount.events("read"))
        assert not served - recorded
        mount.start()
        assert mount.stop() == 0
    finally:
        mount.clean()


def test_a_reader_that_is_killed_in_a_read_harms_nobody(mount):
    (mount.data / "f").write_bytes(b"x" * 100_000)
    for _ in range(10):
        process = subprocess.Popen(
            ["sh", "-c", f"while :; do cat {mount.top}/f; done"], stdout=subprocess.DEVNULL
        )
        time.sleep(0.05)
        process.kill()
        process.wait(LIMIT_S)
    assert (mount.top / "f").read_bytes() == b"x" * 100_000


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        ({"datasets": [{"name": "d", "path": "/", "policy": "opens"}]}, "overlap", 9),
        ({"datasets": [{"name": "d", "path": "/etc", "policy": "none"}]}, "'none' is unknown", 9),
        ({"datasets": [{"name": "a/b", "path": "/etc", "policy": "strict"}]}, "a/b", 9),
        ({"datasets": [{"name": "d", "path": "/no/such", "policy": "strict"}]}, "/no/such", 9),
        ({"spool_limit_bytes": True}, "spool_limit_bytes", 9),
        ({"owner": 7}, "owner", 9),
        ({"mountpoint": "relative"}, "relative", 9),
        ({"mountpoint": "/no/such/place"}, "/no/such/place", 8),
        ({"mountpoint": "/proc"}, "mounted on /proc already", 8),
        ({"spool": "/proc/spool"}, "/proc/spool", 8),
        ({"adapter": "smb"}, "smb", 9),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_that_names_it(tmp_path, change, said, code):
    mount = AuditMount(tmp_path, **change)
    refused = subprocess.run(
        [*DAEMON, str(mount.settings)], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert refused.returncode == code, refused.stderr
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_link_is_no_mountpoint(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    mount = AuditMount(tmp_path)
    os.symlink(tmp_path / "elsewhere", mount.mountpoint)
    refused = subprocess.run(
        [*DAEMON, str(mount.settings)], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert refused.returncode == 8
    assert "no link" in refused.stderr
    assert not is_mounted(tmp_path / "elsewhere")


def test_a_second_daemon_on_the_same_spool_is_refused(mount, tmp_path):
    settings = json.loads(mount.settings.read_text()) | {"mountpoint": str(tmp_path / "other")}
    (tmp_path / "second.json").write_text(json.dumps(settings))
    refused = subprocess.run(
        [*DAEMON, str(tmp_path / "second.json")], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert refused.returncode == 8
    assert "held by a running audit mount" in refused.stderr


def test_nobody_looks_into_the_daemon_or_its_supervisor(tmp_path):
    with audit_mount(tmp_path) as mount:
        for pid in (mount.process.pid, mount.daemon_pid):
            directory = Path(f"/proc/{pid}")
            assert os.stat(directory / "fd").st_uid == 0  # Not dumpable: it belongs to root alone.
            status = (directory / "status").read_text()
            if os.geteuid() == 0 or pid == mount.daemon_pid:
                assert "NoNewPrivs:\t1" in status
            assert "Umask:\t0077" in status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_the_daemon_has_a_user_of_its_own_and_two_of_roots_rights(tmp_path):
    with audit_mount(tmp_path) as mount:
        lines = Path(f"/proc/{mount.daemon_pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == status["Gid"].split() == [str(DAEMON_UID)] * 4
        assert status["Groups"].strip() == ""
        rights = {"CapPrm", "CapEff", "CapBnd"}
        # CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
        assert {int(status[name], 16) for name in rights} == {1 << 2 | 1 << 19}
        assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}


def test_a_mount_that_another_takes_away_ends_the_daemon_with_a_reason(tmp_path):
    with audit_mount(tmp_path) as mount:
        unmount = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*unmount, str(mount.mountpoint)], check=True)
        assert mount.process.wait(LIMIT_S) == 6
        assert "was taken away" in mount.errors.read_text()


def test_an_interrupt_stops_the_daemon_too(mount):
    mount.process.send_signal(signal.SIGINT)
    assert mount.process.wait(LIMIT_S) == 0
    assert not is_mounted(mount.mountpoint)
