"""Who is recorded: program, command line, cgroup, kernel, both parties of a passed descriptor."""

import array
import errno
import hashlib
import json
import os
import pwd
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nightingale_hub.fuse_audit.accounts import Reader
from nightingale_hub.fuse_audit.aside import Aside
from nightingale_hub.fuse_audit.process import Processes
from nightingale_hub.subordinate_ids import Span, load_spans
from tests.audit_mount import LIMIT_S, audit_mount, fail_of, open_to_all

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads as another user")
NOBODY = 65534
KERNEL = "0f3c9a52-9a34-4c5e-8a52-0123456789ab"


@pytest.fixture
def mount(tmp_path):
    with audit_mount(tmp_path) as it:
        (it.data / "f").write_bytes(b"pixels")
        yield it


def digest(*command: str) -> str:
    return hashlib.sha256(b"".join(each.encode() + b"\0" for each in command)).hexdigest()


def run_reader(mount: Any, *arguments: str, code: str = "") -> dict[str, Any]:
    """Read `f` in a process with *arguments*, and return the record of its open."""
    code = code or "import sys; open(sys.argv[1]).read()"
    command = [sys.executable, "-S", "-c", code, str(mount.top / "f"), *arguments]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    opened: dict[str, Any] = mount.events("open")[-1]
    if "subprocess" not in code:
        assert opened["cmd"] == digest(*command)
    return opened


def test_an_open_says_command_line_and_cgroup_and_a_read_need_not_repeat_it(mount):
    opened = run_reader(mount)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    assert opened["cg"] in [line.split(":", 2)[2] for line in lines]
    assert not {"kid", "ouid", "opid"} & set(opened)
    assert not {"cmd", "cg", "kid", "ouid", "opid"} & set(mount.events("read")[-1])


def test_a_notebook_and_what_it_starts_are_named_by_their_kernel(mount):
    at = f"/home/a/.local/share/jupyter/runtime/kernel-{KERNEL}.json"
    assert run_reader(mount, "-f", at)["kid"] == KERNEL
    child = "import subprocess, sys; subprocess.run(['sh', '-c', 'cat < ' + sys.argv[1]])"
    opened = run_reader(mount, "-f", at, code=child)
    assert (opened["kid"], Path(opened["exe"]).name) == (KERNEL, Path(opened["exe"]).name)
    assert opened["pid"] != opened["ppid"]
    assert "kid" not in run_reader(mount, "-f", "/runtime/kernel-of-mine.json")


def test_a_program_that_makes_way_for_its_like_is_seen_to(mount):
    # The same interpreter, in the same thread: only the command line tells the two apart.
    second = "open(__import__('sys').argv[1]).read()"
    first = (
        "import os, sys, time; open(sys.argv[1]).read(); time.sleep(1.1)\n"
        f"os.execv(sys.executable, [sys.executable, '-S', '-c', {second!r}, sys.argv[1]])"
    )
    command = [sys.executable, "-S", "-c", first, str(mount.top / "f")]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    before, after = mount.events("open")
    assert before["pid"] == after["pid"]
    assert before["cmd"] == digest(*command)
    assert after["cmd"] == digest(sys.executable, "-S", "-c", second, str(mount.top / "f"))


@needs_root
def test_a_passed_descriptor_has_both_parties_in_its_reads(mount):
    open_to_all(mount.data)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    code = (
        "import array, os, socket, sys\n"
        "s = socket.socket(fileno=int(sys.argv[1])); m = s.recvmsg(1, 64)[1][0][2]\n"
        "os.read(array.array('i', m)[0], 3)\n"
    )
    command = [sys.executable, "-S", "-c", code, str(theirs.fileno())]
    with ours, theirs, (mount.top / "f").open("rb") as file:
        reader = subprocess.Popen(command, pass_fds=[theirs.fileno()], user=NOBODY)
        passed = array.array("i", [file.fileno()])
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        assert reader.wait(LIMIT_S) == 0
    (opened,) = mount.events("open")
    (read,) = [event for event in mount.events("read") if event["pid"] == reader.pid]
    assert (opened["pid"], opened["uid"]) == (os.getpid(), 0)
    assert (read["uid"], read["opid"], read["ouid"]) == (NOBODY, os.getpid(), 0)
    assert read["fid"] == opened["fid"]
    assert read["cmd"] == digest(*command)


@needs_root
def test_only_the_reader_and_its_subordinate_ids_open_and_a_stranger_is_recorded(tmp_path):
    with audit_mount(tmp_path, guard={"reader_uid": NOBODY}) as mount:
        (mount.data / "f").write_bytes(b"pixels")
        for path in (mount.data, mount.data / "f"):
            path.chmod(0o755)
        open_to_all(mount.data)
        file = str(mount.top / "f")
        as_reader = subprocess.run(["cat", file], user=NOBODY, capture_output=True)
        assert as_reader.stdout == b"pixels"
        assert subprocess.run(["cat", file], user=777, capture_output=True).returncode != 0
        assert fail_of(os.open, file, os.O_RDONLY) == errno.EACCES
        assert [(e["uid"], e["rc"]) for e in mount.events("denied")] == [
            (777, errno.EACCES),
            (0, errno.EACCES),
        ]
        assert (mount.mountpoint / "AUDIT-STATUS.txt").read_text().startswith("Audit of")


def test_a_range_of_subordinate_ids_is_its_accounts(tmp_path):
    file = tmp_path / "subuid"
    name = pwd.getpwuid(os.getuid()).pw_name
    file.write_text(
        f"{name}:500000:65536\n{os.getuid()}:900000:1\nsomebody:700000:65536\n"
        f"{name}:0:5\n{name}:65000:1000\n{name}:x:5\n{name}\n{name}:800000:0\n\n"
    )
    # Never root, never a range that holds another account, and no malformed line.
    assert load_spans(file, os.getuid()) == [Span(500000, 65536), Span(900000, 1)]
    reader = Reader(os.getuid(), file)
    assert [reader.owns(uid) for uid in (os.getuid(), 500999, 565535, 900000)] == [True] * 4
    assert [reader.owns(uid) for uid in (499999, 565536, 700000, 65534)] == [False] * 4


def test_a_range_that_is_given_later_counts_and_a_missing_file_gives_none(tmp_path, monkeypatch):
    monkeypatch.setattr("nightingale_hub.fuse_audit.accounts._LOOK_EVERY_S", 0.0)
    file = tmp_path / "subuid"
    reader = Reader(os.getuid(), file)
    assert not reader.owns(500999)
    file.write_text(f"{os.getuid()}:500000:65536\n")
    assert reader.owns(500999)


def test_a_question_that_hangs_holds_nobody_up():
    goes_on: queue.SimpleQueue[None] = queue.SimpleQueue()

    def look(about: str) -> str:
        if about == "hangs":
            goes_on.get()
        return f"said {about}"

    aside = Aside(look)
    assert aside.ask("it", LIMIT_S) == "said it"
    assert aside.ask("hangs", 0.05) is None
    assert aside.ask("it", LIMIT_S) is None  # at once, while that one hangs
    goes_on.put(None)
    ends = threading.Event()
    for _ in range(200):
        if (found := aside.ask("it", LIMIT_S)) is not None:
            break
        ends.wait(0.02)
    assert found == "said it"


def test_many_who_ask_at_once_are_all_answered():
    aside: Aside[int, int] = Aside(lambda about: about * 2)
    found: list[int | None] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(aside.ask(n, LIMIT_S))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(each for each in found if each is not None) == [n * 2 for n in range(20)]


def test_a_caller_whose_command_line_hangs_is_recorded_without_it(monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(
        "nightingale_hub.fuse_audit.process._read_command", lambda directory: hangs.wait(LIMIT_S)
    )
    process = Processes().find_opener(os.getpid())
    assert process.pid == os.getpid()
    assert b'"cmd"' not in process.origin
    hangs.set()


def test_a_record_of_a_strange_cgroup_is_still_one_object():
    from nightingale_hub.fuse_audit.record import encode_origin

    origin = encode_origin("", b'/a"b\n\xff', "")
    assert json.loads(b"{" + origin[1:] + b"}") == {"cg": '/a"b\n\\xff'}
