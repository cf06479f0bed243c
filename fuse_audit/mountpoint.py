"""The mountpoint: where a FUSE device is mounted and unmounted, as root or as anybody.

Root mounts with mount(2); anybody else asks fusermount3, which is setuid and hands the device
over a socket. Either way the kernel itself refuses writes (`ro`) and checks permissions
(`default_permissions`). Whatever stands in the way is a `MountRefused` that says what.
"""

import ctypes
import errno
import logging
import os
import shutil
import socket
import stat
import subprocess
import time
from typing import NamedTuple

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit.descriptor import Descriptor

DEVICE = "/dev/fuse"
SOURCE = "nightingale"
_HELPER = "fusermount3"
_HELPER_LIMIT_S = 10
_DEAD_MOUNTS = 8
_DIES_WITHIN_S = 0.5

# ref: https://man7.org/linux/man-pages/man2/mount.2.html and umount.2
_RDONLY_NOSUID_NODEV_NOEXEC = 1 | 2 | 4 | 8
_DETACH_NOFOLLOW = 2 | 8

_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)


class Mounted(NamedTuple):
    """A mount that was made: its device, and by which of the two ways."""

    device: int
    how: str


def mount(path: str, *, allow_other: bool, max_read_bytes: int) -> Mounted:
    """Mount on the directory *path*, which is made if its parent is there.

    A mount that a killed daemon left there is cleared first. With *allow_other* users other than
    this process's may read, as far as each file's permissions let them.
    """
    directory = open_mountpoint(path)
    options = f"default_permissions,max_read={max_read_bytes}" + ",allow_other" * allow_other
    if os.geteuid() == 0:
        return _mount_as_root(path, directory, options)
    return _mount_by_helper(path, options)


def open_mountpoint(path: str) -> Descriptor:
    """Make *path* ready to be mounted on, and return that directory.

    It must be the directory itself: a link there could lead root's mount anywhere. Raises
    `MountRefused`.
    """
    _wait_dead(path)
    try:
        if not os.path.lexists(path):
            os.mkdir(path, 0o755)
        if os.path.ismount(path):
            raise MountRefused(f"something is mounted on {path} already; unmount it first")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Descriptor(os.open(path, flags))
    except OSError as error:
        reason = f"{path} cannot be a mountpoint: {error.strerror}"
        raise MountRefused(f"{reason}; it must be a directory and no link") from error


def find_number(path: str) -> int:
    """Return the `st_dev` of the mount at *path*, without asking whoever serves it."""
    # Its own name is not resolved: that would ask.
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    found = 0
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            fields = line.split(b" ")
            if fields[4].decode("unicode_escape").encode("latin-1") == os.fsencode(path):
                major, _, minor = fields[2].partition(b":")
                found = os.makedev(int(major), int(minor))
    return found


def unmount(mounted: Mounted, path: str) -> None:
    """Take the mount at *path* away, also while files in it are open. Never raises."""
    if mounted.how == _HELPER:
        _run_helper_unmount(path)
    else:
        _unmount_as_root(path)


def _wait_dead(path: str) -> None:
    """Clear what is dead at *path*; what dies just now, with its supervisor, is waited for."""
    deadline = time.monotonic() + _DIES_WITHIN_S
    clear_dead(path)
    while os.path.ismount(path) and time.monotonic() < deadline:
        time.sleep(0.02)
        clear_dead(path)


def clear_dead(path: str) -> None:
    """Unmount what a daemon that was killed has left at *path*; leave a live mount alone."""
    for _ in range(_DEAD_MOUNTS):
        try:
            os.statvfs(path)  # Attributes may still be known from before; this always asks.
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                return
        else:
            return
        if os.geteuid() == 0:
            _unmount_as_root(path)
        else:
            _run_helper_unmount(path)


def _mount_as_root(path: str, directory: Descriptor, options: str) -> Mounted:
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountRefused(_explain_device(error)) from error
    options = f"fd={device},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0,{options}"
    target = f"/proc/self/fd/{directory.fd}"
    failed = _libc.mount(
        SOURCE.encode(),
        target.encode(),
        f"fuse.{SOURCE}".encode(),
        _RDONLY_NOSUID_NODEV_NOEXEC,
        options.encode(),
    )
    if failed:
        code = ctypes.get_errno()
        os.close(device)
        hint = "; CAP_SYS_ADMIN is needed" if code == errno.EPERM else ""
        raise MountRefused(f"mount on {path} failed: {os.strerror(code)}{hint}")
    return Mounted(device, "mount(2)")


def _mount_by_helper(path: str, options: str) -> Mounted:
    helper = shutil.which(_HELPER)
    if helper is None:
        raise MountRefused(f"{_HELPER} is not installed, and only root mounts without it")
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise MountRefused(_explain_device(error)) from error
    options = f"ro,nosuid,nodev,noexec,fsname={SOURCE},subtype={SOURCE},{options}"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ours.settimeout(_HELPER_LIMIT_S)
        ended = subprocess.run(
            [helper, "-o", options, "--", path],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=_HELPER_LIMIT_S,
            check=False,
        )
        if ended.returncode:
            raise MountRefused(f"{_HELPER} refused {path}: {ended.stderr.strip()}")
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise MountRefused(f"{_HELPER} handed over no device for {path}")
    os.set_inheritable(descriptors[0], False)
    return Mounted(descriptors[0], _HELPER)


def _unmount_as_root(path: str) -> None:
    if _libc.umount2(os.fsencode(path), _DETACH_NOFOLLOW):
        _log.error("%s is not unmounted: %s", path, os.strerror(ctypes.get_errno()))


def _run_helper_unmount(path: str) -> None:
    subprocess.run(
        [shutil.which(_HELPER) or _HELPER, "-u", "-q", "-z", "--", path],
        stdout=subprocess.DEVNULL,
        timeout=_HELPER_LIMIT_S,
        check=False,
    )


def _explain_device(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"this machine has no {DEVICE}; load the fuse module or pass the device in"
    if isinstance(error, PermissionError):
        return f"{DEVICE} may not be opened by uid {os.geteuid()}; its mode should be 0666"
    return f"{DEVICE} cannot be opened: {error.strerror}"
