"""The gate: an event is recorded before it happens, and no record means no data."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from nightingale_hub.clock import now_us
from nightingale_hub.fuse_audit.configuration import Dataset
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.frames import parse_frames
from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.guard import Guard
from nightingale_hub.fuse_audit.handle import Caller
from nightingale_hub.fuse_audit.limits import Limits
from nightingale_hub.fuse_audit.policy import STRICT
from nightingale_hub.fuse_audit.process import Processes
from nightingale_hub.fuse_audit.spool import Spool
from nightingale_hub.fuse_audit.tree import Tree
from tests.audit_mount import audit_mount, read_events

LARGE = 1 << 30


class SpoolWhoseDiskIsFull(Spool):
    """Its file takes nothing more from now on."""

    def fill(self) -> None:
        self._file = Descriptor(os.open("/dev/full", os.O_WRONLY))


@pytest.fixture
def gate(tmp_path):
    """A gate over a dataset with one file, `f`, and a spool that a test may fill."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "f").write_bytes(b"pixels")
    spool = SpoolWhoseDiskIsFull(str(tmp_path / "spool"), LARGE)
    guard = Guard(spool, str(tmp_path / "spool"), Limits())
    tree = Tree([Dataset("d", str(tmp_path / "data"), STRICT)], 0, guard.describe)
    return Gate(tree, spool, "alice", Processes(), now_us, guard), tree, spool


def test_an_open_for_writing_is_denied_and_recorded(gate, tmp_path):
    it, tree, spool = gate
    node = tree.get_node(b"/d/f")
    writing = [os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND, os.O_CREAT]
    for flags in writing:
        with pytest.raises(OSError) as caught:
            it.open(node, flags, Caller(7, os.getpid()))
        assert caught.value.errno == errno.EROFS
    spool.close()
    events = read_events(tmp_path / "spool")
    assert [(e["act"], e["rc"], e["flags"], e["path"], e["uid"]) for e in events] == [
        ("denied", errno.EROFS, flags, "f", 7) for flags in writing
    ]


def test_what_cannot_be_recorded_is_not_opened_and_not_read(gate):
    it, tree, spool = gate
    node, caller = tree.get_node(b"/d/f"), Caller(0, os.getpid())
    handle = it.open(node, os.O_RDONLY, caller)
    buffer = memoryview(bytearray(10))
    assert it.read(handle.fid, buffer, 0, caller) == 6
    spool.fill()
    for refused in (
        lambda: it.open(node, os.O_RDONLY, caller),
        lambda: it.read(handle.fid, buffer, 0, caller),
        lambda: it.open(node, os.O_RDWR, caller),
    ):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.EIO


def test_a_read_that_the_disk_fails_is_recorded_with_its_error(gate, tmp_path, monkeypatch):
    it, tree, spool = gate
    caller = Caller(0, os.getpid())
    handle = it.open(tree.get_node(b"/d/f"), os.O_RDONLY, caller)

    def fail(*_arguments: object) -> int:
        raise OSError(errno.EIO, "a bad sector")

    with monkeypatch.context() as broken:
        broken.setattr(os, "preadv", fail)
        with pytest.raises(OSError, match="Input/output"):
            it.read(handle.fid, memoryview(bytearray(10)), 0, caller)
    it.close()
    spool.close()
    read = next(event for event in read_events(tmp_path / "spool") if event["act"] == "read")
    assert (read["rc"], read["len"]) == (errno.EIO, 0)


def small_disk(place: Path) -> Path:
    disk = place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    return disk


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
@pytest.mark.parametrize("adapter", ["kernel", "libfuse"])
def test_a_reader_gets_no_byte_once_the_disk_of_the_spool_is_full(tmp_path, adapter):
    disk = small_disk(tmp_path)
    try:
        with audit_mount(tmp_path, adapter=adapter, spool=str(disk / "spool")) as mount:
            (mount.data / "f").write_bytes(b"x" * 4096)
            fd = os.open(mount.top / "f", os.O_RDONLY)
            got = 0
            with pytest.raises(OSError) as caught:
                while True:
                    got += len(os.pread(fd, 4096, 0))
            assert caught.value.errno == errno.EIO
            with pytest.raises(OSError) as caught:
                os.open(mount.top / "f", os.O_RDONLY)
            assert caught.value.errno == errno.EIO
            os.close(fd)
            recorded = read_events(disk / "spool")
            assert got == sum(event["len"] for event in recorded) > 100 * 4096
            # Every line is whole, though the disk ended in the middle of one.
            mount.kill()
            mount.start()
            assert mount.stop() == 0
            assert read_events(disk / "spool")[: len(recorded)] == recorded
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("adapter", ["kernel", "libfuse"])
def test_a_full_spool_refuses_new_opens_and_lets_old_ones_end(tmp_path, adapter):
    with audit_mount(tmp_path, adapter=adapter, spool_limit_bytes=20_000) as mount:
        (mount.data / "f").write_bytes(b"x" * 100)
        held = os.open(mount.top / "f", os.O_RDONLY)
        with pytest.raises(OSError) as caught:
            while True:
                os.close(os.open(mount.top / "f", os.O_RDONLY))
        assert caught.value.errno == errno.EIO
        assert os.pread(held, 100, 0) == b"x" * 100
        os.close(held)
        assert mount.events("read")[-1]["len"] == 100
        assert os.listdir(mount.top) == ["f"]


def test_a_line_is_one_object_of_the_contract(gate, tmp_path):
    it, tree, spool = gate
    caller = Caller(1000, os.getpid())
    handle = it.open(tree.get_node(b"/d/f"), os.O_RDONLY, caller)
    it.read(handle.fid, memoryview(bytearray(4)), 2, caller)
    it.release(handle.fid)
    spool.close()
    (file,) = (tmp_path / "spool").glob("0*.ndjson")
    lines, _ = parse_frames(file.read_bytes())
    keys = ["v", "seq", "ts", "act", "user", "uid", "pid", "ppid", "exe", "ds", "path", "fid"]
    keys += ["ino", "off", "len", "dur", "flags", "rc", "pol"]
    assert [list(json.loads(line)) for line in lines] == [[*keys, "cmd", "cg"], keys, keys]
    read = json.loads(lines[1])
    assert (read["off"], read["len"], read["uid"], read["user"]) == (2, 4, 1000, "alice")
    assert (read["pid"], read["ppid"]) == (os.getpid(), os.getppid())
    assert abs(read["ts"] - now_us()) < 60_000_000
