"""The FUSE kernel protocol as far as a read-only mount speaks it: numbers and struct layouts.

No state and no calls: bytes in, values out, and back. Little-endian, version 7.
ref: https://github.com/torvalds/linux/blob/master/include/uapi/linux/fuse.h
"""

import struct
from collections.abc import Sequence
from os import statvfs_result
from typing import NamedTuple

from nightingale_hub.fuse_audit.tree import Attributes, Entry

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = 8, 9, 10, 11, 12, 13
OPEN, READ, WRITE, STATFS, RELEASE = 14, 15, 16, 17, 18
SETXATTR, REMOVEXATTR, FLUSH, INIT = 21, 24, 25, 26
OPENDIR, READDIR, RELEASEDIR, CREATE, INTERRUPT, DESTROY, IOCTL = 27, 28, 29, 35, 36, 38, 39
BATCH_FORGET, FALLOCATE, RENAME2, LSEEK, COPY_FILE_RANGE, TMPFILE = 42, 43, 45, 46, 47, 51

MUTATIONS = (
    SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR, REMOVEXATTR,
    CREATE, FALLOCATE, RENAME2, COPY_FILE_RANGE, TMPFILE,
)  # fmt: skip

MAJOR = 7
MINOR = 41
ROOT_ID = 1
# A request that the kernel sends again, to whoever reads now, has this bit in its number.
RESENT = 1 << 63
# ref: https://github.com/torvalds/linux/blob/master/fs/fuse/dev.c, fuse_notify_resend
_NOTIFY_RESEND = 7
GETATTR_FH = 1
# Direct I/O brings every read here; no flush is sent, for there is nothing to flush.
OPEN_FLAGS_STRICT = 1 << 0 | 1 << 5
# The kernel reads from the file that is registered, and asks nobody.
OPEN_FLAGS_PASSTHROUGH = 1 << 7 | 1 << 5
# A directory's names are kept with it, until its attributes say that it has changed.
OPEN_FLAGS_DIRECTORY = 1 << 1 | 1 << 3

_ASYNC_READ = 1 << 0
_AUTO_INVAL_DATA = 1 << 12
_PARALLEL_DIROPS = 1 << 18
_MAX_PAGES = 1 << 22
_INIT_EXT = 1 << 30
_DIRECT_IO_ALLOW_MMAP = 1 << 36
_PASSTHROUGH = 1 << 37
_HAS_RESEND = 1 << 39
_WANTED = (
    _ASYNC_READ | _AUTO_INVAL_DATA | _PARALLEL_DIROPS | _MAX_PAGES | _INIT_EXT
    | _DIRECT_IO_ALLOW_MMAP | _PASSTHROUGH | _HAS_RESEND
)  # fmt: skip

PAGE_BYTES = 4096
MAX_READ_BYTES = 1 << 20
# The least that the kernel takes; nothing is ever written here.
_MAX_WRITE_BYTES = 4096
_BACKGROUND = 64
# How many filesystems that stack on others may lie under the mount: one, such as overlayfs.
_STACK_DEPTH = 2

HEADER = struct.Struct("<IIQQIIIHH")
REPLY = struct.Struct("<IiQ")
READ_IN = struct.Struct("<QQIIQII")
OPEN_IN = struct.Struct("<II")
GETATTR_IN = struct.Struct("<IIQ")
HANDLE_IN = struct.Struct("<Q")
LSEEK_IN = struct.Struct("<QQII")
FORGET_IN = struct.Struct("<Q")
BATCH_FORGET_IN = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
OPEN_OUT = struct.Struct("<QIi")
LSEEK_OUT = struct.Struct("<Q")
_INIT_IN = struct.Struct("<IIII")
_INIT_IN_EXT = struct.Struct("<I")
_INIT_OUT = struct.Struct("<IIIIHHIIHHIIH22x")
_ENTRY = struct.Struct("<QQQQII")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_VALID = struct.Struct("<QII")
_STATFS = struct.Struct("<QQQQQIIII24x")
_DIRENT = struct.Struct("<QQII")

_NS_PER_S = 1_000_000_000


class Hello(NamedTuple):
    """What the kernel offers at INIT."""

    major: int
    minor: int
    max_readahead: int
    flags: int

    @property
    def can_resend(self) -> bool:
        """Whether a request that a dead daemon has left is sent again to the next one."""
        return bool(self.flags & _HAS_RESEND)


def parse_init(body: memoryview) -> Hello:
    """Return the kernel's offer; its flags are one number of 64 bits."""
    major, minor, readahead, flags = _INIT_IN.unpack_from(body)
    if len(body) >= _INIT_IN.size + _INIT_IN_EXT.size:
        flags |= _INIT_IN_EXT.unpack_from(body, _INIT_IN.size)[0] << 32
    return Hello(major, minor, readahead, flags)


def pack_init(hello: Hello) -> bytes:
    """Return our answer to *hello*: what we want of what it offers."""
    flags = hello.flags & _WANTED
    return _INIT_OUT.pack(
        MAJOR, min(hello.minor, MINOR), hello.max_readahead, flags & 0xFFFFFFFF,
        _BACKGROUND, _BACKGROUND * 3 // 4, _MAX_WRITE_BYTES, 1,
        MAX_READ_BYTES // PAGE_BYTES, 0, flags >> 32,
        _STACK_DEPTH if flags & _PASSTHROUGH else 0, 0,
    )  # fmt: skip


def pack_resend() -> bytes:
    """Return the notice by which the kernel sends what is not answered again."""
    return REPLY.pack(REPLY.size, _NOTIFY_RESEND, 0)


def pack_attributes(found: Attributes, valid_s: int) -> bytes:
    """Return the reply to GETATTR; the kernel may use it for *valid_s* seconds."""
    return _VALID.pack(valid_s, 0, 0) + _pack_attributes(found)


def pack_entry(nodeid: int, found: Attributes, entry_s: int, valid_s: int) -> bytes:
    """Return the reply to LOOKUP: the name is valid for *entry_s*, attributes for *valid_s*."""
    return _ENTRY.pack(nodeid, 0, entry_s, valid_s, 0, 0) + _pack_attributes(found)


def pack_space(space: statvfs_result) -> bytes:
    """Return the reply to STATFS."""
    return _STATFS.pack(
        space.f_blocks, space.f_bfree, space.f_bavail, space.f_files, space.f_ffree,
        space.f_bsize, space.f_namemax, space.f_frsize, 0,
    )  # fmt: skip


def pack_entries(entries: Sequence[Entry], start: int, size: int) -> bytes:
    """Return the entries from index *start* that fit in *size* bytes; none is the end."""
    packed: list[bytes] = []
    for index in range(start, len(entries)):
        name, ino, kind = entries[index]
        data = _DIRENT.pack(ino, index + 1, len(name), kind >> 12) + name
        data += bytes(-len(data) % 8)
        size -= len(data)
        if size < 0:
            break
        packed.append(data)
    return b"".join(packed)


def _pack_attributes(found: Attributes) -> bytes:
    atime, atime_ns = divmod(found.atime_ns, _NS_PER_S)
    mtime, mtime_ns = divmod(found.mtime_ns, _NS_PER_S)
    ctime, ctime_ns = divmod(found.ctime_ns, _NS_PER_S)
    # Seconds before 1970 are negative, in two's complement as everywhere in the protocol.
    mask = (1 << 64) - 1
    return _ATTRIBUTES.pack(
        found.ino, found.size, found.blocks, atime & mask, mtime & mask, ctime & mask,
        atime_ns, mtime_ns, ctime_ns, found.mode, found.nlink, found.uid, found.gid,
        0, found.blksize, 0,
    )  # fmt: skip
