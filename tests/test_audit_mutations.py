"""Each defence is taken out, and what it is for is seen to break; with it, the same holds."""

import mmap
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.audit_mount import LIMIT_S, AuditMount, covered, is_covered
from tests.mount_mutant import DEFENCES
from tests.test_audit_policies import find_reason

SIZE = 1 << 20
HANGS_S = 3

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root lets the kernel read itself")


def reads_twice(mount: AuditMount) -> bool:
    fd = os.open(mount.top / "f", os.O_RDONLY)
    for _ in range(2):
        os.pread(fd, 4096, 0)
    os.close(fd)
    return len(mount.events("read")) == 2


def reads_while_the_daemon_dies(mount: AuditMount) -> bool:
    script = "import os,sys; os.pread(os.open(sys.argv[1],0),100,0)"
    command = [sys.executable, "-S", "-c", script, str(mount.top / "f")]
    reader = subprocess.Popen(command)
    try:
        assert reader.wait(HANGS_S) == 0
    except subprocess.TimeoutExpired:
        # Not even a signal ends it while its request is with a daemon: the mount's end does.
        mount.stop()
        reader.wait(LIMIT_S)
        return False
    return len(mount.events("read")) == 1


def sends_by_two_descriptors(mount: AuditMount) -> bool:
    with (mount.top.parent.parent / "sink").open("wb") as sink:
        fds = [os.open(mount.top / "f", os.O_RDONLY) for _ in range(2)]
        for fd in fds:
            os.sendfile(sink.fileno(), fd, 0, 65536)
            os.close(fd)
    return {event["fid"] for event in mount.events("read")} == {
        event["fid"] for event in mount.events("open")
    }


def reads_past_the_daemon(mount: AuditMount) -> bool:
    fd = os.open(mount.top / "f", os.O_RDONLY)
    os.pread(fd, 5000, 100_000)
    os.close(fd)
    mount.stop()
    return is_covered({(100_000, 105_000)}, covered(mount.events(), "f"))


def maps_past_the_daemon(mount: AuditMount) -> bool:
    fd = os.open(mount.top / "f", os.O_RDONLY)
    with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as mapped:
        assert mapped[500_000:500_001]
    os.close(fd)
    mount.stop()
    return is_covered({(500_000, 500_001)}, covered(mount.events(), "f"))


def is_lost_with_its_supervisor(mount: AuditMount) -> bool:
    fd = os.open(mount.top / "f", os.O_RDONLY)
    mount.kill()
    os.pread(fd, 100, 0)
    os.close(fd)
    mount.start([sys.executable, "-m", "tests.mount_mutant", *mount.mutant])
    mount.stop()
    return is_covered({(0, 100)}, covered(mount.events(), "f"))


Probe = Callable[[AuditMount], bool]
CASES: dict[str, tuple[str, str, Probe]] = {
    "keep_pages_in_the_cache": ("strict", "never", reads_twice),
    "send_nothing_again": ("strict", "before_reply-read", reads_while_the_daemon_dies),
    "note_no_record": ("strict", "after_record-read", reads_while_the_daemon_dies),
    "share_one_page_cache": ("strict", "never", sends_by_two_descriptors),
    "record_no_harvest": ("ranges", "never", reads_past_the_daemon),
    "look_at_no_mapping": ("ranges", "never", maps_past_the_daemon),
    "settle_nothing": ("ranges", "never", is_lost_with_its_supervisor),
}


def test_each_defence_has_a_case():
    assert set(CASES) == set(DEFENCES)


@pytest.mark.parametrize("is_removed", [False, True], ids=["there", "removed"])
@pytest.mark.parametrize("defence", CASES)
def test_what_a_defence_is_for_breaks_without_it(tmp_path, defence, is_removed):
    policy, point, probe = CASES[defence]
    if reason := find_reason(policy):
        pytest.skip(f"policy {policy} cannot be kept here: {reason}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "f").write_bytes(os.urandom(SIZE))
    datasets = [{"name": "d", "path": str(tmp_path / "data"), "policy": policy}]
    mount = AuditMount(tmp_path, datasets=datasets)
    mount.mutant = [defence if is_removed else "none", point]
    mount.start([sys.executable, "-m", "tests.mount_mutant", *mount.mutant])
    try:
        assert probe(mount) is not is_removed
    finally:
        mount.clean()
