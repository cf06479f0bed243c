"""What a hostile reader uses up, and what they pretend: the record stays whole and true."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightingale_hub.clock import now_us
from tests.audit_mount import AuditMount, audit_mount, fail_of, read_events

FEW_FILES = 400
SERVE = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW_FILES}, {FEW_FILES}))
from nightingale_hub.fuse_audit import __main__
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_a_flood_of_opens_is_refused_before_the_daemon_lacks_a_file_for_itself(tmp_path):
    mount = AuditMount(tmp_path)
    for number in range(FEW_FILES):
        (mount.data / str(number)).write_bytes(b"x")
    mount.start([sys.executable, "-c", SERVE])
    try:
        held = []
        with pytest.raises(OSError) as caught:
            for number in range(FEW_FILES):
                held.append(os.open(mount.top / str(number), os.O_RDONLY))
        assert caught.value.errno == errno.EMFILE
        assert len(held) == FEW_FILES // 2
        # What is open is read on, and who asks is known, whoever asks.
        assert os.pread(held[0], 1, 0) == b"x"
        assert subprocess.run(["cat", mount.top / "399"], capture_output=True).returncode == 1
        os.close(held.pop())
        deadline = time.monotonic() + 10  # A release comes when the kernel sends it.
        while subprocess.run(["cat", mount.top / "399"], capture_output=True).stdout != b"x":
            assert time.monotonic() < deadline
        for fd in held:
            os.close(fd)
        assert mount.stop() == 0
        assert all(event["exe"] for event in mount.events())
        denied = mount.events("denied")
        assert {event["rc"] for event in denied} == {errno.EMFILE}
        assert {Path(event["exe"]).name for event in denied} >= {"cat"}
        assert len(mount.events("open")) == len(mount.events("release"))
    finally:
        mount.clean()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_spool_s_disk_without_inodes_loses_no_record_and_goes_on_once_there_are_some(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = "size=16m,nr_inodes=40"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    try:
        with audit_mount(tmp_path, spool=str(disk / "spool")) as mount:
            (mount.data / "f").write_bytes(b"pixels")
            fd = os.open(mount.top / "f", os.O_RDONLY)
            number = 0
            while fail_of((disk / str(number)).touch) is None:
                number += 1
            assert number > 5
            count = 6000  # More than one spool file holds.
            assert all(os.pread(fd, 6, 0) == b"pixels" for _ in range(count))
            assert len(list((disk / "spool").glob("0*.ndjson"))) == 1
            assert len(mount.events("read")) == count
            for left in range(number):
                (disk / str(left)).unlink()
            assert os.pread(fd, 6, 0) == b"pixels"
            assert os.pread(fd, 6, 0) == b"pixels"
            os.close(fd)
            assert mount.stop() == 0
            assert len(list((disk / "spool").glob("0*.ndjson"))) == 2
            reads = [event for event in read_events(disk / "spool") if event["act"] == "read"]
            assert len(reads) == count + 2
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="the clock is Debian's faketime's")
def test_a_reader_s_own_clock_is_not_the_record_s(tmp_path):
    with audit_mount(tmp_path) as mount:
        (mount.data / "f").write_bytes(b"pixels")
        begun_us = now_us()
        command = ["faketime", "1999-12-31 23:59:59", "cat", str(mount.top / "f")]
        said = subprocess.run(command, capture_output=True, check=True)
        assert said.stdout == b"pixels"
        ended_us = now_us()
        assert all(begun_us <= event["ts"] <= ended_us for event in mount.events("read"))
        assert len(mount.events("open")) == 1


def test_other_snapshots_of_a_dataset_are_out_of_reach(tmp_path):
    """ZFS keeps them in .zfs, whether it is listed or not."""
    for place in (tmp_path / "data", tmp_path / "data" / "patients"):
        (place / ".zfs" / "snapshot" / "before").mkdir(parents=True)
        (place / ".zfs" / "snapshot" / "before" / "withdrawn.dcm").write_bytes(b"pixels")
    with audit_mount(tmp_path) as mount:
        for place in (mount.top, mount.top / "patients"):
            hidden = place / ".zfs" / "snapshot" / "before" / "withdrawn.dcm"
            for call in (os.stat, os.listdir):
                assert fail_of(call, place / ".zfs") == errno.ENOENT
            assert fail_of(os.open, hidden, os.O_RDONLY) == errno.ENOENT
        assert os.listdir(mount.top) == ["patients"]
        assert os.listdir(mount.top / "patients") == []
