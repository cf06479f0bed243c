"""Who reads: every caller is told from every other, and each gets a record of their own."""

import errno
import mmap
import os
import pwd
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nightingale_hub.fuse_audit.handle import Caller
from nightingale_hub.fuse_audit.memory import Memory
from nightingale_hub.fuse_audit.nodes import Nodes
from nightingale_hub.fuse_audit.tree import Node, Tree
from tests.audit_mount import LIMIT_S, audit_mount, open_to_all

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def test_many_readers_at_once_get_their_bytes_and_lose_no_record(mount):
    content = os.urandom(300_000)
    for number in range(20):
        (mount.data / str(number)).write_bytes(content)
    child = (
        "import os,sys\n"
        "for n in range(20):\n"
        "  fd=os.open(sys.argv[1]+'/'+str(n),0)\n"
        "  while os.read(fd,50_000): pass\n"
        "  os.close(fd)\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-S", "-c", child, str(mount.top)]) for _ in range(4)
    ]

    def read_whole(number: int) -> bytes:
        return Path(mount.top, str(number % 20)).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert all(got == content for got in pool.map(read_whole, range(80)))
    assert [process.wait(LIMIT_S) for process in children] == [0] * 4
    assert mount.stop() == 0
    served: Counter[int] = Counter()
    for event in mount.events("read"):
        served[event["fid"]] += event["len"]
    assert len(mount.events("open")) == len(mount.events("release")) == 160
    assert sorted(served.values()) == [300_000] * 160
    by_child = [e for e in mount.events("read") if e["pid"] in {p.pid for p in children}]
    assert len(by_child) == 4 * 20 * 7
    # A thread of ours is recorded as this process, whatever its own number is.
    assert {e["pid"] for e in mount.events()} == {p.pid for p in children} | {os.getpid()}


def test_a_reader_is_named_by_the_program_that_runs_now(mount):
    (mount.data / "f").write_bytes(b"x" * 10)
    script = f"exec 3< {mount.top}/f; head -c 1 <&3 >/dev/null; exec cat <&3 >/dev/null"
    subprocess.run(["sh", "-c", script], check=True)
    opened = mount.events("open")[0]
    readers = [Path(event["exe"]).name for event in mount.events("read")]
    assert opened["exe"] == os.path.realpath("/bin/sh")
    assert readers[0] == "head"
    assert set(readers[1:]) == {"cat"}
    # cat runs in the shell's own process: its number alone would name the shell.
    assert mount.events("read")[-1]["pid"] == opened["pid"]


@needs_root
def test_another_user_reads_what_the_modes_let_them_and_is_recorded(mount):
    os.chmod(mount.data, 0o755)
    nobody = pwd.getpwnam("nobody").pw_uid
    (mount.data / "public").write_bytes(b"public")
    (mount.data / "private").write_bytes(b"private")
    os.chmod(mount.data / "public", 0o644)
    os.chmod(mount.data / "private", 0o600)
    open_to_all(mount.data)
    results = {
        name: subprocess.run(["cat", mount.top / name], capture_output=True, user=nobody)
        for name in ("public", "private")
    }
    assert results["public"].stdout == b"public"
    assert results["private"].returncode == 1
    assert {(event["uid"], event["path"]) for event in mount.events()} == {(nobody, "public")}


@needs_root
def test_without_allow_other_another_user_gets_nothing(tmp_path):
    with audit_mount(tmp_path, allow_other=False) as mount:
        (mount.data / "f").write_bytes(b"x")
        os.chmod(mount.data, 0o755)
        open_to_all(tmp_path)
        nobody = pwd.getpwnam("nobody").pw_uid
        refused = subprocess.run(["cat", mount.top / "f"], capture_output=True, user=nobody)
        assert refused.returncode == 1
        assert mount.events() == []


def test_the_kernel_adapter_keeps_the_pages_of_two_readers_apart(tmp_path):
    """sendfile and mmap read from the page cache, which asks nobody for what it has."""
    size = 1 << 20
    with audit_mount(tmp_path) as mount, open(tmp_path / "sink", "wb") as sink:
        (mount.data / "f").write_bytes(os.urandom(size))
        first, second = (os.open(mount.top / "f", os.O_RDONLY) for _ in range(2))
        for fd in (first, second):
            sent = 0
            while sent < size:
                sent += os.sendfile(sink.fileno(), fd, sent, size - sent)
        with (
            mmap.mmap(first, size, prot=mmap.PROT_READ) as one,
            mmap.mmap(second, size, prot=mmap.PROT_READ) as two,
        ):
            assert one[:] == two[:]
        os.close(first)
        os.close(second)
        assert mount.stop() == 0
        opens = mount.events("open")
        assert len(opens) == 2
        for opened in opens:
            reads = [event for event in mount.events("read") if event["fid"] == opened["fid"]]
            # Once for sendfile, and once more for the mapping, which begins with an empty cache.
            assert sum(event["len"] for event in reads) == 2 * size


def test_the_kernel_adapter_lets_one_file_be_opened_by_many_at_once(tmp_path):
    with audit_mount(tmp_path) as mount:
        (mount.data / "f").write_bytes(b"x")
        child = "import os,sys\nfor _ in range(200): os.close(os.open(sys.argv[1],0))\n"
        command = [sys.executable, "-S", "-c", child, str(mount.top / "f")]
        children = [subprocess.Popen(command) for _ in range(8)]
        assert [process.wait(LIMIT_S) for process in children] == [0] * 8
        assert mount.stop() == 0
        assert len(mount.events("open")) == len(mount.events("release")) == 1600


def test_the_kernel_adapter_opens_a_descriptor_of_ours_by_its_path(tmp_path):
    with audit_mount(tmp_path) as mount:
        (mount.data / "f").write_bytes(b"hello")
        script = f"exec 3< {mount.top}/f; cat /dev/fd/3"
        assert subprocess.run(["sh", "-c", script], capture_output=True).stdout == b"hello"
        assert len(mount.events("open")) == 2


def test_a_number_is_open_once_and_who_comes_second_gets_their_own(tmp_path):
    nodes = Nodes(Tree([], 0, bytes), Memory(str(tmp_path)))
    file = Node(None, b"f", None)
    first, second = Caller(7, 100), Caller(7, 200)
    shared = nodes.remember(1, file, 5, first.tid)
    assert nodes.remember(1, file, 5, second.tid) == shared
    nodes.open(shared, first)
    with pytest.raises(OSError) as caught:
        nodes.open(shared, second)
    assert caught.value.errno == errno.ESTALE
    nodes.release(shared, first.uid)
    # Sent back, it gets one that nobody else can have taken, though the first is free again.
    own = nodes.remember(1, file, 5, second.tid)
    assert own != shared == nodes.remember(1, file, 5, first.tid)
    nodes.open(own, second)
    nodes.open(shared, first)


def test_a_number_is_given_up_when_it_is_forgotten_as_often_as_it_was_looked_up(tmp_path):
    nodes = Nodes(Tree([], 0, bytes), Memory(str(tmp_path)))
    file = Node(None, b"f", None)
    number = nodes.remember(1, file, 5, 0)
    assert nodes.remember(1, file, 5, 0) == number
    nodes.forget(number, 1)
    assert nodes.get(number) is file
    nodes.forget(number, 1)
    with pytest.raises(OSError, match="no such node"):
        nodes.get(number)
    assert len(nodes) == 1
    assert nodes.remember(1, file, 5, 0) != number


@needs_root
def test_another_user_cannot_open_a_held_file_past_its_name(tmp_path):
    with audit_mount(tmp_path) as mount:
        os.chmod(mount.data, 0o755)
        (mount.data / "f").write_bytes(b"x")
        os.chmod(mount.data / "f", 0o644)
        name = os.open(mount.top / "f", os.O_PATH)
        held = os.open(mount.top / "f", os.O_RDONLY)
        child = "import os,sys; os.open('/proc/self/fd/'+sys.argv[1],0)"
        refused = subprocess.run(
            [sys.executable, "-S", "-c", child, str(name)],
            pass_fds=[name], capture_output=True, text=True, user="nobody",
        )  # fmt: skip
        os.close(name)
        os.close(held)
        assert "Stale file handle" in refused.stderr
        assert len(mount.events("open")) == 1
