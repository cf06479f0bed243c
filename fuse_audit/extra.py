"""Files that a mount serves beside those of a dataset, each like one of its siblings.

An extra file has its sibling's mode, owner and kind of time, a size and a name of its own, an inode
number beside its sibling's, and its place among the names of its folder by chance; it is opened,
read and recorded as every file is. A file of the dataset that has its name takes its place.
"""

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightingale_hub.errors import ConfigError
from nightingale_hub.fuse_audit.descriptor import Descriptor

_HEAD_BYTES = 4096
_PIECE_BYTES = 1 << 20
_BLOCK = 512
_PAGE = 4096
# What a ZFS directory counts besides its entries.
_OWN_ENTRIES = 2


@dataclass(frozen=True, slots=True)
class Extra:
    """One file; *path* and *sibling* are relative to the dataset, in one folder."""

    path: bytes
    sibling: bytes
    size: int
    mtime_ns: int
    seed: str


class Folder:
    """The extra files of one folder, and what of the folder they are fitted to."""

    def __init__(self, extras: Sequence[Extra]) -> None:
        """Hold *extras*, by name."""
        self.by_name = {os.path.basename(extra.path): extra for extra in extras}
        self._inos: dict[bytes, int] = {}
        self._count = 0

    def fit(self, folder_fd: int) -> None:
        """Choose inode numbers that no file of the folder has; once."""
        if self._inos:
            return
        readable = Descriptor(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder_fd))
        with os.scandir(readable.fd) as entries:
            taken = {entry.inode() for entry in entries}
        self._count = len(taken)
        for name, extra in self.by_name.items():
            sibling = os.path.basename(extra.sibling)
            ino = os.stat(sibling, dir_fd=folder_fd, follow_symlinks=False).st_ino
            while ino in taken:
                ino += 1
            taken.add(ino)
            self._inos[name] = ino

    def get_ino(self, name: bytes) -> int:
        """Return the inode number of the extra file *name*."""
        return self._inos[name]

    def stat(self, name: bytes, folder_fd: int) -> os.stat_result:
        """Return what stat says of the extra file *name*."""
        self.fit(folder_fd)
        extra = self.by_name[name]
        like = os.stat(os.path.basename(extra.sibling), dir_fd=folder_fd, follow_symlinks=False)
        second = 1_000_000_000
        whole = (
            like.st_mode, self._inos[name], like.st_dev, 1, like.st_uid, like.st_gid, extra.size,
            like.st_atime_ns // second, extra.mtime_ns // second, like.st_ctime_ns // second,
        )  # fmt: skip
        more = {
            "st_atime_ns": like.st_atime_ns,
            "st_mtime_ns": extra.mtime_ns,
            "st_ctime_ns": like.st_ctime_ns,
            "st_blocks": _scale_blocks(like, extra.size),
            "st_blksize": like.st_blksize,
        }
        return os.stat_result(whole, more)

    def count_into(self, folder: os.stat_result, folder_fd: int) -> os.stat_result:
        """Return *folder* as it is with the extra files, where its size counts its entries."""
        self.fit(folder_fd)
        if folder.st_size != self._count + _OWN_ENTRIES:
            return folder
        values = list(folder)
        values[6] += len(self.by_name)
        named = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blocks", "st_blksize")
        return os.stat_result(values, {name: getattr(folder, name) for name in named})

    def place(self, name: bytes, count: int) -> int:
        """Return where among *count* names *name* stands: always the same, and anywhere."""
        digest = hashlib.sha256(self.by_name[name].seed.encode()).digest()
        return int.from_bytes(digest[:8], "big") % (count + 1)

    def open(self, name: bytes, folder_fd: int) -> Descriptor:
        """Return the content of the extra file *name*: it begins as its sibling does."""
        extra = self.by_name[name]
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        sibling = Descriptor(os.open(os.path.basename(extra.sibling), flags, dir_fd=folder_fd))
        file = Descriptor(os.memfd_create("file", os.MFD_CLOEXEC))
        head = os.pread(sibling.fd, min(_HEAD_BYTES, extra.size // 2), 0)
        os.write(file.fd, head)
        rng = random.Random(extra.seed)  # noqa: S311 - the same bytes at each open, no secret
        left = extra.size - len(head)
        while left:
            piece = rng.randbytes(min(left, _PIECE_BYTES))
            os.write(file.fd, piece)
            left -= len(piece)
        return file


def group_extras(extras: Sequence[Extra]) -> dict[bytes, Folder]:
    """Return *extras* by their folder's path."""
    folders: dict[bytes, list[Extra]] = {}
    for extra in extras:
        folders.setdefault(os.path.dirname(extra.path), []).append(extra)
    return {path: Folder(found) for path, found in folders.items()}


def parse_extras(given: Any) -> tuple[Extra, ...]:
    """Return the extra files of a dataset in `mount.json`; raises `ConfigError`."""
    try:
        extras = tuple(
            Extra(
                os.fsencode(str(each["path"])),
                os.fsencode(str(each["sibling"])),
                int(each["size"]),
                int(each["mtime_ns"]),
                str(each["seed"]),
            )
            for each in given
        )
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError("extra files need path, sibling, size, mtime_ns and seed") from error
    for extra in extras:
        parts = extra.path.split(b"/")
        is_plain = all(part not in (b"", b".", b"..") for part in parts) and b"\0" not in extra.path
        if not is_plain or os.path.dirname(extra.path) != os.path.dirname(extra.sibling):
            raise ConfigError("an extra file must lie beside its sibling, below the dataset")
        if extra.size < 0:
            raise ConfigError("an extra file's size is below 0")
    return extras


def _scale_blocks(like: os.stat_result, size: int) -> int:
    full = -(-like.st_size // _PAGE) * (_PAGE // _BLOCK)
    if like.st_blocks == full or not like.st_size:
        return -(-size // _PAGE) * (_PAGE // _BLOCK)
    return max(1, like.st_blocks * size // like.st_size)
