"""Where an audit mount works: for a user who is not root, and over a real ZFS dataset."""

import errno
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nightingale_hub.demo.zfs import create_pool, destroy_pool
from tests.audit_mount import DAEMON, LIMIT_S, AuditMount, audit_mount, fail_of, open_to_all

REPOSITORY = Path(__file__).parents[1]
# In a mount namespace of its own, a /dev/fuse that anybody may open: it is 0600 on some machines.
WITH_DEVICE = (
    'mknod -m 666 "$0" c 10 229 && mount --bind "$0" /dev/fuse && '
    'exec setpriv --reuid nobody --regid nogroup --clear-groups "$@"'
)
WITHOUT_DEVICE = 'exec setpriv --reuid nobody --regid nogroup --clear-groups "$@"'

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
needs_helper = pytest.mark.skipif(
    shutil.which("fusermount3") is None, reason="fusermount3 is not installed"
)
needs_zfs = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("zfs-fuse", path="/usr/sbin:/sbin") is None,
    reason="a pool needs root and Debian's zfs-fuse",
)


@pytest.fixture
def place(tmp_path):
    """A directory of nobody's, which nobody can reach."""
    directory = tmp_path / "nobody"
    directory.mkdir()
    shutil.chown(directory, "nobody", "nogroup")
    open_to_all(tmp_path)
    can_run = [sys.executable, "-c", "import nightingale_hub.fuse_audit"]
    if subprocess.run(can_run, user="nobody", cwd=REPOSITORY, capture_output=True).returncode:
        pytest.skip("the user nobody cannot run this Python")
    return directory


def run_as_nobody(script: str, place: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script,
         str(place.parent / "device"), *command],
        capture_output=True, text=True, timeout=3 * LIMIT_S, cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


@needs_root
@needs_helper
def test_who_is_not_root_mounts_through_fusermount3(place):
    inner = [sys.executable, str(REPOSITORY / "tests" / "audit_rootless.py"), str(place)]
    ended = run_as_nobody(WITH_DEVICE, place, inner)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "how": ["fusermount3", "fusermount3"],
        "read": ["pixels", "pixels"],
        "written": errno.EROFS,
        "dead": True,
        "code": 0,
        "uids": [pwd.getpwnam("nobody").pw_uid],
        "opens": 2,
        "programs": [Path(os.path.realpath(sys.executable)).name],
    }


@needs_root
@pytest.mark.parametrize(
    ("script", "path", "said"),
    [
        ("mknod -m 600 \"$0\" c 10 229 && mount --bind \"$0\" /dev/fuse && " + WITHOUT_DEVICE,
         os.defpath, "/dev/fuse may not be opened by uid 65534"),
        (WITH_DEVICE.replace("exec ", "exec env PATH=/nowhere /usr/bin/"), os.defpath,
         "fusermount3 is not installed"),
    ],
)  # fmt: skip
def test_who_may_not_mount_is_told_why(place, script, path, said):
    mount = AuditMount(place, allow_other=False)
    shutil.chown(mount.data, "nobody", "nogroup")
    os.chmod(mount.settings, 0o644)
    ended = run_as_nobody(script, place, [*DAEMON, str(mount.settings)])
    assert ended.returncode == 8, ended.stderr
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@needs_root
def test_a_machine_without_the_device_is_told_so(tmp_path):
    mount = AuditMount(tmp_path)
    script = 'mount -t tmpfs none /dev && exec "$@"'
    ended = run_as_nobody(script, tmp_path, [*DAEMON, str(mount.settings)])
    assert ended.returncode == 8
    assert "this machine has no /dev/fuse" in ended.stderr


@needs_zfs
def test_a_zfs_dataset_is_served_and_stays_as_it_is(tmp_path):
    source = tmp_path / "source"
    (source / "CT").mkdir(parents=True)
    content = os.urandom(300_000)
    (source / "CT" / "a.dcm").write_bytes(content)
    base = tmp_path / "pool"
    base.mkdir()
    pool = create_pool(base)
    try:
        path = pool.add("dicom", source, "1")
        assert fail_of(os.open, path / "CT" / "a.dcm", os.O_WRONLY) == errno.EROFS
        datasets = [{"name": "dicom", "path": str(path), "policy": "strict"}]
        with audit_mount(tmp_path, datasets=datasets) as mount:
            file = mount.mountpoint / "dicom" / "CT" / "a.dcm"
            read = subprocess.run(["cat", file], check=True, capture_output=True)
            assert read.stdout == content
            assert fail_of(os.open, file, os.O_WRONLY) == errno.EROFS
            assert fail_of(os.unlink, file) == errno.EROFS
            assert mount.stop() == 0
        assert sum(event["len"] for event in mount.events("read")) == len(content)
        assert {event["path"] for event in mount.events()} == {"CT/a.dcm"}
    finally:
        destroy_pool(base)


@needs_zfs
def test_a_snapshot_is_pinned_and_no_other_one_is_reached(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.dcm").write_bytes(b"as it was")
    base = tmp_path / "pool"
    base.mkdir()
    pool = create_pool(base)
    try:
        path = pool.add("dicom", source, "1")
        pinned = path.parent / "pinned"
        full = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", path], check=True, capture_output=True, text=True
        ).stdout.strip()
        clone = f"{full.rpartition('/')[0]}/pinned"
        pool._zfs("snapshot", f"{full}@1")
        pool._zfs("clone", "-o", f"mountpoint={pinned}", "-o", "readonly=on", f"{full}@1", clone)
        datasets = [{"name": "d", "path": str(pinned), "policy": "strict"}]
        with audit_mount(tmp_path, datasets=datasets) as mount:
            pool._zfs("set", "readonly=off", full)
            subprocess.run(["mount", "-i", "-o", "remount,rw", path], check=True)
            (path / "a.dcm").write_bytes(b"as it is now")
            assert (mount.top / "a.dcm").read_bytes() == b"as it was"
            assert os.listdir(mount.top) == ["a.dcm"]
            for place in (mount.top, mount.top / ".." / "d"):
                assert fail_of(os.listdir, place / ".zfs" / "snapshot") == errno.ENOENT
            assert mount.stop() == 0
    finally:
        destroy_pool(base)
