"""The source of a dataset: a directory, seen through a mount of our own that is in no namespace.

As root a private copy of the mount is taken, read-only and closed to programs and devices: no
process has a path to it, and whoever unmounts or binds over the original changes nothing here.
Anybody else gets the directory itself.
"""

import ctypes
import os
import struct
from collections.abc import Sequence

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit.configuration import Dataset
from nightingale_hub.fuse_audit.descriptor import Descriptor

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# ref: https://man7.org/linux/man-pages/man2/mount_setattr.2.html and open_tree.2; the numbers
# are the same on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_RDONLY_NOSUID_NODEV_NOEXEC = 1 | 2 | 4 | 8
_MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def open_sources(datasets: Sequence[Dataset]) -> dict[str, Descriptor]:
    """Return the open directory of each dataset, by its name; raises `MountRefused`."""
    return {dataset.name: _open_source(dataset) for dataset in datasets}


def _open_source(dataset: Dataset) -> Descriptor:
    try:
        if os.geteuid() == 0:
            return _clone_mount(dataset.path)
        return Descriptor(os.open(dataset.path, _DIRECTORY_FLAGS))
    except OSError as error:
        reason = f"dataset {dataset.name}: {dataset.path} cannot be opened: {error.strerror}"
        raise MountRefused(f"{reason}; check that it is a mounted directory") from error


def _clone_mount(path: str) -> Descriptor:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW
    tree = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    if tree < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    directory = Descriptor(tree)
    attributes = struct.pack("<QQQQ", _RDONLY_NOSUID_NODEV_NOEXEC, 0, _MS_PRIVATE, 0)
    if _libc.syscall(
        _SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes, len(attributes)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return directory
