"""A read through io_uring, spoken by hand: with a polling kernel thread or without."""

import ctypes
import mmap
import os
import struct
import time

SETUP, ENTER = 425, 426
SQPOLL, NEED_WAKEUP = 1 << 1, 1
GETEVENTS, WAKEUP = 1, 2
READ = 22
LIMIT_S = 20

_libc = ctypes.CDLL(None, use_errno=True)


def read_by_ring(fd: int, size: int, offset: int, *, is_polled: bool) -> bytes:
    """Return *size* bytes of *fd* from *offset*; raises `OSError`."""
    # ref: https://man7.org/linux/man-pages/man2/io_uring_setup.2.html
    params = bytearray(120)
    struct.pack_into("<I", params, 8, SQPOLL if is_polled else 0)
    ring = _libc.syscall(SETUP, 4, (ctypes.c_char * 120).from_buffer(params))
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    try:
        return _read(ring, params, fd, size, offset, is_polled)
    finally:
        os.close(ring)


def _read(ring, params, fd, size, offset, is_polled) -> bytes:
    _, sq_tail, _, _, sq_flags, _, sq_array = struct.unpack_from("<7I", params, 40)
    cq_head, cq_tail, _, _, _, cqes = struct.unpack_from("<6I", params, 80)
    both = mmap.mmap(ring, 4096, offset=0)
    entries = mmap.mmap(ring, 4096, offset=0x10000000)
    into = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(into))
    struct.pack_into("<BBHiQQI28x", entries, 0, READ, 0, 0, fd, offset, address, size)
    struct.pack_into("<I", both, sq_array, 0)
    struct.pack_into("<I", both, sq_tail, 1)
    deadline = time.monotonic() + LIMIT_S
    while not is_polled or struct.unpack_from("<I", both, sq_flags)[0] & NEED_WAKEUP:
        flags = WAKEUP if is_polled else GETEVENTS
        _libc.syscall(ENTER, ring, 0 if is_polled else 1, 0 if is_polled else 1, flags, None, 0)
        break
    while struct.unpack_from("<I", both, cq_head) == struct.unpack_from("<I", both, cq_tail):
        if time.monotonic() > deadline:
            raise TimeoutError("no completion")
        if is_polled and struct.unpack_from("<I", both, sq_flags)[0] & NEED_WAKEUP:
            _libc.syscall(ENTER, ring, 0, 0, WAKEUP, None, 0)
        time.sleep(0.005)
    (result,) = struct.unpack_from("<i", both, cqes + 8)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return into[:result]
