"""The audit mount serves what is there, all of it, and refuses every change.

Each test runs on each adapter.
"""

import errno
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.audit_mount import audit_mount, fail_of


def test_a_file_is_served_and_its_open_read_and_release_are_recorded(mount):
    (mount.data / "CT").mkdir()
    (mount.data / "CT" / "a.dcm").write_bytes(b"pixels")
    subprocess.run(["cat", mount.top / "CT" / "a.dcm"], check=True, stdout=subprocess.PIPE)
    assert mount.stop() == 0
    opened, read, *_, released = mount.events()
    assert [opened["act"], read["act"], released["act"]] == ["open", "read", "release"]
    assert {(e["user"], e["uid"], e["ds"], e["path"]) for e in mount.events()} == {
        ("alice", os.getuid(), "d", "CT/a.dcm")
    }
    assert (read["off"], read["len"], read["rc"], read["pol"]) == (0, 6, 0, "strict")
    assert len({e["fid"] for e in mount.events()}) == 1
    assert {e["ino"] for e in mount.events()} == {(mount.data / "CT" / "a.dcm").stat().st_ino}
    for event in (opened, read, released):
        assert Path(event["exe"]).name == "cat"
        assert event["ppid"] == os.getpid()


def test_the_mount_says_that_it_is_read_only(mount):
    options = next(
        line.split(" ")[3]
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if str(mount.mountpoint) in line
    ).split(",")
    assert {"ro", "nosuid", "nodev", "noexec", "default_permissions"} <= set(options)


def test_every_change_is_refused_as_read_only(mount):
    (mount.data / "f").write_bytes(b"x")
    (mount.data / "dir").mkdir()
    file, directory, new = mount.top / "f", mount.top / "dir", mount.top / "new"
    changes = {
        "write": lambda: os.open(file, os.O_WRONLY),
        "read and write": lambda: os.open(file, os.O_RDWR),
        "truncate": lambda: os.truncate(file, 0),
        "create": lambda: os.open(new, os.O_WRONLY | os.O_CREAT),
        "mkdir": lambda: os.mkdir(new),
        "rmdir": lambda: os.rmdir(directory),
        "unlink": lambda: os.unlink(file),
        "rename": lambda: os.rename(file, new),
        "chmod": lambda: os.chmod(file, 0o777),
        "chown": lambda: os.chown(file, 1, 1),
        "utime": lambda: os.utime(file),
        "symlink": lambda: os.symlink("f", new),
        "link": lambda: os.link(file, new),
        "mknod": lambda: os.mknod(new, 0o600 | stat.S_IFIFO),
        "setxattr": lambda: os.setxattr(file, "user.a", b"1"),
    }
    assert {name: fail_of(change) for name, change in changes.items()} == dict.fromkeys(
        changes, errno.EROFS
    )
    assert (mount.data / "f").read_bytes() == b"x"
    assert sorted(os.listdir(mount.data)) == ["dir", "f"]


def test_what_is_not_there_is_not_found_and_is_no_event(mount):
    for name in ("d/none", "d/none/below", "unknown"):
        assert fail_of(os.stat, mount.mountpoint / name) == errno.ENOENT
    assert mount.events() == []


def test_a_name_of_any_bytes_is_served_and_recorded(mount):
    names = {
        b"\xff\xfe": r"\xff\xfe",
        b"back\\slash": r"back\\slash",
        b"\\xff": r"\\xff",
        b'new\nline "and" quote': 'new\nline "and" quote',
        "für Ärzte".encode(): "für Ärzte",
    }
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(mount.data), name))).write_bytes(name)
    top = os.fsencode(mount.top)
    assert set(os.listdir(top)) == set(names)
    for name in names:
        with open(os.path.join(top, name), "rb") as file:
            assert file.read() == name
    assert {event["path"] for event in mount.events("open")} == set(names.values())


def test_a_large_directory_is_listed_whole(mount):
    wanted = {f"image-{number:06}.dcm" for number in range(12_000)}
    (mount.data / "many").mkdir()
    for name in wanted:
        (mount.data / "many" / name).touch()
    found = os.listdir(mount.top / "many")
    assert len(found) == len(wanted)
    assert set(found) == wanted


def test_attributes_are_those_of_the_dataset(mount):
    file = mount.data / "f"
    file.write_bytes(b"12345")
    os.chmod(file, 0o640)
    os.utime(file, ns=(1_234_567_890_123_456_789, -1_500_000_000))
    ours, theirs = os.stat(mount.top / "f"), os.stat(file)
    for name in ("st_mode", "st_size", "st_nlink", "st_uid", "st_gid", "st_mtime_ns", "st_ino"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert stat.S_IMODE(os.stat(mount.mountpoint).st_mode) == 0o555
    assert os.listdir(mount.mountpoint) == ["d", "AUDIT-STATUS.txt"]
    assert os.statvfs(mount.top).f_blocks == os.statvfs(mount.data).f_blocks


def test_a_sparse_file_of_more_than_4_gib_is_read_at_its_end(mount):
    far = 5 << 30
    with (mount.data / "large").open("wb") as file:
        file.seek(far)
        file.write(b"end")
    with open(mount.top / "large", "rb", buffering=0) as file:
        file.seek(far)
        assert file.read(10) == b"end"
    assert (mount.top / "large").stat().st_size == far + 3
    assert (mount.top / "large").stat().st_blocks < 1000
    assert (far, 3) in [(event["off"], event["len"]) for event in mount.events("read")]


def test_a_link_is_served_as_a_link_and_never_followed_by_the_daemon(mount, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (mount.data / "f").write_bytes(b"inside")
    os.symlink("f", mount.data / "good")
    os.symlink(tmp_path / "secret", mount.data / "absolute")
    os.symlink("../../../../../../../../../../etc/passwd", mount.data / "climbing")
    assert (mount.top / "good").read_bytes() == b"inside"
    assert os.readlink(mount.top / "absolute") == str(tmp_path / "secret")
    # Its reader follows it, with the reader's rights; the daemon gave no byte of it.
    assert (mount.top / "absolute").read_bytes() == b"secret"
    assert fail_of(os.open, mount.top / "climbing", os.O_RDONLY | os.O_NOFOLLOW) == errno.ELOOP
    assert {event["path"] for event in mount.events()} == {"f"}


def test_a_directory_that_turns_into_a_link_does_not_lead_out(mount, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(b"outside")
    (mount.data / "sub").mkdir()
    (mount.data / "sub" / "f").write_bytes(b"inside")
    directory = os.open(mount.top, os.O_RDONLY)
    try:
        assert os.stat("sub", dir_fd=directory).st_mode & stat.S_IFDIR
        shutil.rmtree(mount.data / "sub")
        os.symlink(tmp_path / "outside", mount.data / "sub")
        # The kernel may still think that sub is a directory: the daemon must not.
        code = fail_of(lambda: os.open("sub/f", os.O_RDONLY, dir_fd=directory))
    finally:
        os.close(directory)
    assert code == errno.ENOTDIR
    assert not [event for event in mount.events("read") if event["len"]]


def test_fifos_sockets_and_devices_do_not_open_and_the_try_is_recorded(mount):
    os.mkfifo(mount.data / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(mount.data / "socket"))
    names = ["fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(mount.data / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        names.append("device")
    for name in names:
        assert fail_of(os.open, mount.top / name, os.O_RDONLY) == errno.EACCES
        assert stat.S_ISREG(os.stat(mount.top / name).st_mode)
    if os.geteuid() == 0:  # The kernel refuses anybody else by the file's mode, unasked.
        denied = {(e["path"], e["act"], e["rc"]) for e in mount.events()}
        assert denied == {(name, "denied", errno.EACCES) for name in names}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts two filesystems")
def test_two_datasets_never_share_an_inode_number(tmp_path, adapter):
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
        for number in range(50):
            (place / str(number)).touch()
    try:
        numbers = [{entry.inode() for entry in os.scandir(place)} for place in places]
        assert numbers[0] & numbers[1], "the two filesystems do not number alike"
        datasets = [{"name": p.name, "path": str(p), "policy": "strict"} for p in places]
        with audit_mount(tmp_path, adapter=adapter, datasets=datasets) as mount:
            found = [e for top in ("one", "two") for e in os.scandir(mount.mountpoint / top)]
            assert len({entry.inode() for entry in found}) == 100
            assert all(entry.inode() == entry.stat().st_ino for entry in found)
    finally:
        for place in places:
            subprocess.run(["umount", place], check=True)


def test_reads_of_a_file_that_is_gone_go_on_and_close_is_recorded(mount):
    (mount.data / "f").write_bytes(b"x" * 10)
    fd = os.open(mount.top / "f", os.O_RDONLY)
    (mount.data / "f").unlink()
    assert os.pread(fd, 10, 0) == b"x" * 10
    os.close(fd)
    assert fail_of(os.stat, mount.top / "f") in (None, errno.ENOENT)
    assert [event["act"] for event in mount.events()][:2] == ["open", "read"]
