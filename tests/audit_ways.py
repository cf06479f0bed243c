"""Reads files in every way that there is: `python -m tests.audit_ways TOP TEMPORARY`.

Opens one file per way below TOP, says `open`, waits for a line, reads, and prints as JSON what it
got: ranges, and the digest of each. A way that fails got nothing.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tests.uring import read_by_ring

PAGE = 4096
SIZE = 4 << 20
AT = 1 << 20  # where each way reads, and how much
LENGTH = 70_000

Got = list[tuple[int, bytes]]


def by_pread(fd: int, path: Path) -> Got:
    return [(AT, os.pread(fd, LENGTH, AT))]


def by_read(fd: int, path: Path) -> Got:
    os.lseek(fd, AT, os.SEEK_SET)
    return [(AT, os.read(fd, LENGTH))]


def by_preadv(fd: int, path: Path) -> Got:
    first, second = bytearray(1000), bytearray(LENGTH)
    count = os.preadv(fd, [first, second], AT)
    return [(AT, bytes(first + second)[:count])]


def by_preadv2(fd: int, path: Path) -> Got:
    into = bytearray(LENGTH)
    count = os.preadv(fd, [into], AT, os.RWF_HIPRI)
    return [(AT, bytes(into[:count]))]


def by_mmap(flags: int) -> Callable[[int, Path], Got]:
    def read(fd: int, path: Path) -> Got:
        def touch() -> bytes:
            with mmap.mmap(fd, SIZE, flags=flags, prot=mmap.PROT_READ) as mapped:
                return b"".join(mapped[at : at + PAGE] for at in touched)

        touched = (AT, AT + 40 * PAGE, 3 << 20)
        data = _in_child(touch)
        # Whole pages: that is what a reader of a mapping has before it.
        return [(at, data[n * PAGE : (n + 1) * PAGE]) for n, at in enumerate(touched)]

    return read


def by_grown_mapping(fd: int, path: Path) -> Got:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
    small = libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
    # The file is not asked again for what a mapping grows by.
    large = libc.mremap(ctypes.c_void_p(small), ctypes.c_size_t(PAGE), ctypes.c_size_t(SIZE), 1)
    if large is None or large == 2**64 - 1:
        raise OSError(ctypes.get_errno(), "mremap")
    data = _in_child(lambda: ctypes.string_at(large + SIZE - PAGE, PAGE))
    return [(SIZE - PAGE, data)]


def by_sendfile(fd: int, path: Path) -> Got:
    return [(AT, _drain(lambda write_end: os.sendfile(write_end, fd, AT, LENGTH)))]


def by_splice(fd: int, path: Path) -> Got:
    return [(AT, _drain(lambda write_end: os.splice(fd, write_end, LENGTH, offset_src=AT)))]


def by_copy_file_range(fd: int, path: Path) -> Got:
    target = os.open(sys.argv[2], os.O_TMPFILE | os.O_RDWR)
    count = os.copy_file_range(fd, target, LENGTH, offset_src=AT)
    return [(AT, os.pread(target, count, 0))]


def by_direct(fd: int, path: Path) -> Got:
    with mmap.mmap(-1, 16 * PAGE) as into:
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        count = os.preadv(direct, [into], AT)
        os.close(direct)
        return [(AT, into[:count])]


def by_direct_set_later(fd: int, path: Path) -> Got:
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
    with mmap.mmap(-1, 16 * PAGE) as into:
        count = os.preadv(fd, [into], AT)
        return [(AT, into[:count])]


def by_reopen(fd: int, path: Path) -> Got:
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        return [(AT, os.pread(again, LENGTH, AT))]
    finally:
        os.close(again)


def by_path_only(fd: int, path: Path) -> Got:
    named = os.open(path, os.O_PATH)
    again = os.open(f"/proc/self/fd/{named}", os.O_RDONLY)
    try:
        return [(AT, os.pread(again, LENGTH, AT))]
    finally:
        os.close(again)
        os.close(named)


def by_fork(fd: int, path: Path) -> Got:
    return [(AT, _in_child(lambda: os.pread(fd, LENGTH, AT)))]


def by_readahead(fd: int, path: Path) -> Got:
    ctypes.CDLL(None).readahead(fd, ctypes.c_int64(AT), ctypes.c_size_t(LENGTH))
    return [(AT, os.pread(fd, LENGTH, AT))]


def by_ring(is_polled: bool) -> Callable[[int, Path], Got]:
    return lambda fd, path: [(AT, read_by_ring(fd, LENGTH, AT, is_polled=is_polled))]


def by_passed_descriptor(fd: int, path: Path) -> Got:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [b"x"], [fd])

        def read() -> bytes:
            os.close(fd)
            _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
            return os.pread(fds[0], LENGTH, AT)

        return [(AT, _in_child(read))]


WAYS: dict[str, Callable[[int, Path], Got]] = {
    "read": by_read,
    "pread": by_pread,
    "preadv": by_preadv,
    "preadv2": by_preadv2,
    "private mmap": by_mmap(mmap.MAP_PRIVATE),
    "shared mmap": by_mmap(mmap.MAP_SHARED),
    "mmap that grows": by_grown_mapping,
    "sendfile": by_sendfile,
    "splice": by_splice,
    "copy_file_range": by_copy_file_range,
    "O_DIRECT": by_direct,
    "O_DIRECT set later": by_direct_set_later,
    "reopen": by_reopen,
    "O_PATH": by_path_only,
    "fork": by_fork,
    "readahead": by_readahead,
    "io_uring": by_ring(False),
    "io_uring with SQPOLL": by_ring(True),
    "passed descriptor": by_passed_descriptor,
}


def _drain(send: Callable[[int], int]) -> bytes:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 18)
    try:
        left, data = send(write_end), b""
        while len(data) < left:
            data += os.read(read_end, left - len(data))
        return data
    finally:
        os.close(read_end)
        os.close(write_end)


def _in_child(read: Callable[[], bytes]) -> bytes:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            os.write(write_end, read())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as got:
        data = got.read()
    os.waitpid(pid, 0)
    if not data:
        raise OSError("the child got nothing")
    return data


def name_file(way: str) -> str:
    return way.replace(" ", "-")


def main(top: Path) -> None:
    opened = {way: os.open(top / name_file(way), os.O_RDONLY) for way in WAYS}
    print("open", flush=True)
    sys.stdin.readline()
    for way, read in WAYS.items():
        path = top / name_file(way)
        try:
            got = read(opened[way], path)
        except OSError as error:
            print(json.dumps({"way": way, "error": str(error), "ranges": []}), flush=True)
            continue
        ranges = [(at, at + len(data)) for at, data in got]
        digests = [hashlib.sha256(data).hexdigest() for _, data in got]
        print(json.dumps({"way": way, "digests": digests, "ranges": ranges}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
