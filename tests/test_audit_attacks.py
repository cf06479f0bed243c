"""What a hostile user with a shell tries on the daemon and on the source, and is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nightingale_hub.processes import find_identity, is_alive, list_descendants
from tests.audit_mount import LIMIT_S, audit_mount, open_to_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a mount for others")
STRANGER = 29_777
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"]
# By another user, by root of a user namespace that still sees all processes, and by one that has
# namespaces of mounts and processes of its own too.
ATTACKERS = {
    "another user": [],
    "root of a user namespace": ["unshare", "--user", "--map-root-user"],
    "root of all namespaces": UNSHARE,
}


@pytest.fixture
def mount(tmp_path):
    with audit_mount(tmp_path) as it:
        (it.data / "f").write_bytes(b"pixels")
        (it.data / "f").chmod(0o644)
        open_to_all(tmp_path)
        it.data.chmod(0o700)
        yield it


def attack(mount, place: Path, wrapper: list[str]) -> dict[str, list[list[str]]]:
    writable = place / "writable"
    writable.mkdir(exist_ok=True)
    os.chown(writable, STRANGER, STRANGER)
    script = place / "attacker.py"
    shutil.copy(Path(__file__).parent / "attacker.py", script)
    settings = {
        "pids": [mount.process.pid, *(each.pid for each in list_descendants(mount.process.pid))],
        "mountpoint": str(mount.mountpoint),
        "source": str(mount.data),
        "spool": str(mount.spool),
        "device": mount.data.stat().st_dev,
        "writable": str(writable),
    }
    (place / "attack.json").write_text(json.dumps(settings))
    for path in (script, place / "attack.json"):
        path.chmod(0o644)
    said = subprocess.run(
        [*wrapper, "/usr/bin/python3", "-S", str(script), str(place / "attack.json")],
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert said.returncode == 0, said.stderr
    results: dict[str, list[list[str]]] = json.loads(said.stdout)
    return results


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_attack_is_refused_and_the_mount_serves_on(mount, tmp_path, attacker):
    daemons = list_descendants(mount.process.pid)
    assert daemons
    supervisor = find_identity(mount.process.pid)
    results = attack(mount, tmp_path, ATTACKERS[attacker])
    assert results["reached"] == []
    names = {name for name, _ in results["refused"]}
    assert len(names) > 35
    # What is refused for want of a right, not because the attack was clumsy.
    wrong = {("EFAULT", name) for name, code in results["refused"] if code in ("EFAULT", "ENOSYS")}
    assert wrong == set()
    assert supervisor is not None and is_alive(supervisor)
    assert all(is_alive(each) for each in daemons)
    assert (mount.top / "f").read_bytes() == b"pixels"
    assert os.listdir(mount.mountpoint) == ["d", "AUDIT-STATUS.txt"]


def test_the_attacks_do_reach_what_is_not_defended(mount, tmp_path):
    # Against the test itself: each attack of this kind works on a process of the attacker's own.
    victim = subprocess.Popen(["sleep", "60"], user=STRANGER, group=STRANGER, extra_groups=[])
    try:
        mount.data.chmod(0o755)
        real = mount.process.pid
        mount.process.pid = victim.pid
        try:
            results = attack(mount, tmp_path, [])
        finally:
            mount.process.pid = real
        reached = {name for name, _ in results["reached"]}
        assert {"kill SIGKILL", "pidfd_send_signal", "source", "source listed"} <= reached
    finally:
        victim.kill()
        victim.wait(LIMIT_S)


def read_mounts(process: Path) -> str:
    try:
        return (process / "mountinfo").read_text()
    except OSError:
        return ""  # It has ended.


def test_the_source_is_in_no_mount_namespace_when_its_mount_is_gone(tmp_path):
    disk = tmp_path / "data"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "of-the-dataset", str(disk)], check=True)
    (disk / "f").write_bytes(b"pixels")
    try:
        with audit_mount(tmp_path) as mount:
            subprocess.run(["umount", "-l", str(disk)], check=True)
            assert not (disk / "f").exists()
            tables = "\n".join(read_mounts(entry) for entry in Path("/proc").glob("[0-9]*"))
            assert "nightingale" in tables  # ours is there, and it is what is looked through
            assert "of-the-dataset" not in tables
            assert (mount.top / "f").read_bytes() == b"pixels"
            subprocess.run(["mount", "-t", "tmpfs", "another", str(disk)], check=True)
            (disk / "f").write_bytes(b"forged")
            assert (mount.top / "f").read_bytes() == b"pixels"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_reader_in_namespaces_of_its_own_is_recorded_with_its_real_ids(mount):
    mount.data.chmod(0o755)
    command = [*UNSHARE, "cat", str(mount.top / "f")]
    said = subprocess.run(command, user=STRANGER, group=STRANGER, capture_output=True)
    assert said.stdout == b"pixels", said.stderr
    opened = mount.events("open")[-1]
    assert (opened["uid"], Path(opened["exe"]).name) == (STRANGER, "cat")
    assert opened["pid"] > 0
    assert opened["pid"] != 1


def test_a_flood_hides_no_read(mount):
    mount.data.chmod(0o755)
    code = (
        "import os, sys, time\n"
        "fd = os.open(sys.argv[1], 0); ends = time.monotonic() + 2; n = 0\n"
        "while time.monotonic() < ends: os.pread(fd, 1, n % 6); n += 1\n"
        "print(n)\n"
    )
    command = [sys.executable, "-S", "-c", code, str(mount.top / "f")]
    flood = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    time.sleep(0.5)
    quiet = subprocess.Popen(["cat", str(mount.top / "f")], stdout=subprocess.DEVNULL)
    assert quiet.wait(LIMIT_S) == 0
    counts = {each.pid: int(each.communicate(timeout=LIMIT_S)[0]) for each in flood}
    reads = mount.events("read")
    for pid, count in counts.items():
        assert sum(event["pid"] == pid for event in reads) == count
    assert sum(event["len"] for event in reads if event["pid"] == quiet.pid) == 6
