"""By policy, way to read and state of the daemon: no byte is obtained that no record covers.

What each policy promises of a byte that a reader got:
  strict   a read record of the same open covers it (a mapping or splice: by cluster of pages)
  ranges   a read record of the file covers it, by whole pages (a mapping: to 2 MiB), later
  opens    an open record charges the whole file
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit import ranges
from tests.audit_mount import LIMIT_S, AuditMount, audit_mount, covered, is_covered
from tests.audit_ways import SIZE, WAYS, name_file

ROOT = Path(__file__).parents[1]
STATES = ("alive", "stopped", "killed", "restarted", "lost")
POLICIES = ("strict", "ranges", "opens")
# Linux copies within one filesystem only, or not at all: programs fall back to read.
REFUSED = ("copy_file_range",)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root lets the kernel read itself")


def can_watch() -> str:
    """Return why this machine cannot keep policy `ranges`; empty when it can."""
    try:
        ranges.Watch(0)
    except MountRefused as error:
        return str(error)
    return ""


def find_reason(policy: str) -> str:
    return can_watch() if policy == "ranges" else ""


class Reader:
    """One run of tests.audit_ways over a mount."""

    def __init__(self, mount: AuditMount) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.audit_ways", str(mount.top), str(mount.data.parent)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "open\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> dict[str, dict[str, Any]]:
        output, _ = self.process.communicate(timeout=4 * LIMIT_S)
        return {each["way"]: each for each in map(json.loads, output.splitlines())}


def make_files(mount: AuditMount) -> None:
    for way in WAYS:
        (mount.data / name_file(way)).write_bytes(os.urandom(SIZE))


def read_in_state(mount: AuditMount, state: str) -> dict[str, dict[str, Any]]:
    reader = Reader(mount)
    try:
        if state == "killed":
            mount.kill_daemon()
        elif state == "restarted":
            old = mount.kill_daemon()
            deadline = time.monotonic() + LIMIT_S
            while mount.daemon_pid in (old, mount.process.pid):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        elif state == "lost":
            mount.kill()
        stopped = mount.stop_daemon() if state == "stopped" else None
        reader.go()
        if stopped is not None:
            time.sleep(0.3)
            os.kill(stopped, signal.SIGCONT)
        found = reader.finish()
    finally:
        reader.process.kill()
        reader.process.communicate()
    if state == "lost":
        mount.start()
    assert mount.stop() == 0
    return found


@pytest.fixture(scope="module", params=[(p, s) for p in POLICIES for s in STATES], ids="-".join)
def outcome(request, tmp_path_factory):
    policy, state = request.param
    if reason := find_reason(policy):
        pytest.skip(f"policy {policy} cannot be kept here: {reason}")
    place = tmp_path_factory.mktemp("policies")
    (place / "data").mkdir()
    datasets = [{"name": "d", "path": str(place / "data"), "policy": policy}]
    mount = AuditMount(place, datasets=datasets)
    make_files(mount)
    mount.start()
    try:
        found = read_in_state(mount, state)
        for way, got in found.items():
            content = (mount.data / name_file(way)).read_bytes()
            digests = [hashlib.sha256(content[start:end]) for start, end in got["ranges"]]
            assert got.get("digests", []) == [each.hexdigest() for each in digests], way
        yield policy, state, found, mount
    finally:
        mount.clean()


@pytest.mark.parametrize("way", WAYS)
def test_no_byte_is_obtained_unlogged(outcome, way):
    policy, state, found, mount = outcome
    path = name_file(way)
    got = found[way]
    if state == "lost" and policy == "strict":
        assert got["ranges"] == [], "read while nobody looked"
    elif state != "lost" and way not in REFUSED:
        assert got["ranges"], got
    asked = {(start, end) for start, end in got["ranges"]}
    ours = [event for event in mount.events() if event["path"] == path]
    assert {event["pol"] for event in ours} == {policy}
    if policy == "opens":
        charged = [event["len"] for event in ours if event["act"] == "open"]
        assert charged and set(charged) == {SIZE}
        assert all(end <= SIZE for _, end in asked)
    else:
        assert is_covered(asked, covered(ours, path)), (asked, covered(ours, path))
    opens = [event["fid"] for event in ours if event["act"] == "open"]
    releases = sorted(e["fid"] for e in ours if e["act"] == "release")
    assert sorted(opens) == releases, mount.errors.read_text()
    if policy == "ranges" and state != "lost" and "mmap" not in way:
        logged = sum(end - start for start, end in covered(ours, path))
        assert logged <= SIZE // 8, "a few pages were read, and far more is charged"


def test_what_lies_on_another_filesystem_is_charged_wholly(tmp_path):
    if reason := find_reason("ranges"):
        pytest.skip(f"policy ranges cannot be kept here: {reason}")
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    (data / "f").write_bytes(b"x" * SIZE)
    subprocess.run(["mount", "-t", "tmpfs", "none", data / "below"], check=True)
    try:
        (data / "below" / "g").write_bytes(b"y" * SIZE)
        datasets = [{"name": "d", "path": str(data), "policy": "ranges"}]
        with audit_mount(tmp_path, datasets=datasets) as mount:
            with open(mount.top / "below" / "g", "rb", buffering=0) as file:
                assert file.read(10) == b"y" * 10
            assert mount.stop() == 0
            assert covered(mount.events(), "below/g") == {(0, SIZE)}
    finally:
        subprocess.run(["umount", data / "below"], check=True)


@pytest.mark.parametrize(("policy", "fallback"), [("ranges", "strict"), ("ranges", None)])
def test_a_policy_that_cannot_be_kept_is_refused_or_falls_back_where_that_is_allowed(
    tmp_path, policy, fallback
):
    """A tmpfs tells nothing of what is read from it."""
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", data], check=True)
    try:
        (data / "f").write_bytes(b"x" * 10)
        dataset = {"name": "d", "path": str(data), "policy": policy}
        allowed = {} if fallback is None else {"fallback": fallback}
        mount = AuditMount(tmp_path, datasets=[dataset | allowed])
        if fallback is None:
            with pytest.raises(AssertionError, match="cannot be audited by its policy here"):
                mount.start()
            return
        with audit_mount(tmp_path, datasets=[dataset | allowed]) as mount:
            assert (mount.top / "f").read_bytes() == b"x" * 10
            assert mount.stop() == 0
            assert {event["pol"] for event in mount.events()} == {fallback}
    finally:
        subprocess.run(["umount", data], check=True)
