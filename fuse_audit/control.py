"""What a daemon asks of its supervisor, which alone has root's rights: both ends of one socket.

A message is a kind and a number. To register a file comes with its descriptor, and is answered
with the number by which the kernel knows it, or minus an errno. A harvest is answered with a
memory file, and comes again until the daemon says that it is recorded: so none is lost with one.
"""

import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.ranges import Charge, Harvest

_READY, _REGISTER, _GIVE_BACK, _HARVEST, _LIST, _BEAT = range(6)
_MESSAGE = struct.Struct("<BQ")
_ANSWER = struct.Struct("<q")
_PAIR = struct.Struct("<QQ")
_CHARGE = struct.Struct("<QQIIQQ")
# An epoch over so many files asks once for each, and not at each of its opens.
_IDLE = 1 << 15

# ref: https://github.com/torvalds/linux/blob/master/include/uapi/linux/fuse.h
_BACKING_OPEN = 0x4010E501
_BACKING_CLOSE = 0x4004E502
_BACKING = struct.Struct("<iIQ")


def register(device: int, file: int) -> int:
    """Register the open *file* for passthrough on *device*; raises `OSError`."""
    request = bytearray(_BACKING.pack(file, 0, 0))
    return int(fcntl.ioctl(device, _BACKING_OPEN, request, True))


def give_back(device: int, backing_id: int) -> None:
    """Undo `register`; files that are open by it stay open."""
    fcntl.ioctl(device, _BACKING_CLOSE, bytearray(struct.pack("<I", backing_id)), True)


class Registrar:
    """The supervisor's end: what is registered, whichever daemon asked for it."""

    def __init__(self, device: int, harvest: Callable[[], Harvest] | None) -> None:
        """Register on *device*; *harvest* takes what was read past the daemon."""
        self._device = device
        self._harvest = harvest
        self._backing: dict[int, int] = {}
        self._harvested = 0
        self._unrecorded: bytes | None = None
        # Whether a daemon has said that it serves, and when one last said that it still does.
        self.is_ready = False
        self.beat_s = 0.0

    def answer(self, control: socket.socket) -> bool:
        """Answer one message; return whether there was one."""
        message, files, _, _ = socket.recv_fds(control, _MESSAGE.size, 1)
        if not message:
            return False
        owned = [Descriptor(file) for file in files]
        kind, number = _MESSAGE.unpack(message)
        if kind == _READY:
            self.is_ready = True
            self.beat_s = time.monotonic()
        elif kind == _BEAT:
            self.beat_s = time.monotonic()
        elif kind == _REGISTER:
            control.send(_ANSWER.pack(self._register(number, owned)))
        elif kind == _GIVE_BACK:
            self._give_back(number)
        elif kind == _LIST:
            _send_file(control, 0, b"".join(_PAIR.pack(*pair) for pair in self._backing.items()))
        elif kind == _HARVEST:
            self._answer_harvest(control, number)
        return True

    def _register(self, nodeid: int, files: list[Descriptor]) -> int:
        if nodeid in self._backing:
            return self._backing[nodeid]
        try:
            self._backing[nodeid] = register(self._device, files[0].fd)
        except (OSError, IndexError) as error:
            return -(getattr(error, "errno", None) or errno.EIO)
        return self._backing[nodeid]

    def _give_back(self, nodeid: int) -> None:
        backing_id = self._backing.pop(nodeid, None)
        if backing_id is not None:
            give_back(self._device, backing_id)

    def _answer_harvest(self, control: socket.socket, recorded: int) -> None:
        if self._unrecorded is None or recorded == self._harvested:
            assert self._harvest is not None
            charges, is_lossy = self._harvest()
            packed = b"".join(_CHARGE.pack(*charge) for charge in charges)
            self._harvested += 1
            self._unrecorded = bytes([is_lossy]) + packed
        _send_file(control, self._harvested, self._unrecorded)


class Numbered(NamedTuple):
    """A harvest and its number, which the next one is asked for with once it is recorded."""

    number: int
    harvest: Harvest


class Control:
    """The daemon's end."""

    def __init__(self, control: socket.socket, watched: frozenset[int]) -> None:
        """Ask over *control*; of reads on the devices *watched* harvests tell."""
        self._control = control
        self._watched = watched
        self._lock = threading.Lock()
        self._backing: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    def is_watched(self, file: int) -> bool:
        """Whether harvests tell what is read of the open *file*."""
        return os.fstat(file).st_dev in self._watched

    def say_ready(self) -> None:
        """Say that this daemon serves."""
        self._control.send(_MESSAGE.pack(_READY, 0))

    def say_alive(self) -> None:
        """Say that requests are still answered."""
        self._control.send(_MESSAGE.pack(_BEAT, 0))

    def load(self) -> None:
        """Learn what a daemon before this one has registered."""
        with self._lock:
            self._control.send(_MESSAGE.pack(_LIST, 0))
            _, data = _receive_file(self._control)
        self._backing = dict(_PAIR.iter_unpack(data))
        self._idle = OrderedDict.fromkeys(self._backing)

    def find(self, nodeid: int) -> int:
        """Return the backing id of *nodeid*, 0 when it has none."""
        return self._backing.get(nodeid, 0)

    def take(self, nodeid: int, file: int) -> int:
        """Return the backing id of *nodeid* for one more open of *file*; raises `OSError`.

        All that have a node open at once must use one id, or the kernel refuses them.
        """
        with self._lock:
            backing_id = self._backing.get(nodeid)
            if backing_id is None:
                socket.send_fds(self._control, [_MESSAGE.pack(_REGISTER, nodeid)], [file])
                (backing_id,) = _ANSWER.unpack(self._control.recv(_ANSWER.size))
                if backing_id < 0:
                    raise OSError(-backing_id, os.strerror(-backing_id))
                self._backing[nodeid] = backing_id
            self._counts[nodeid] = self._counts.get(nodeid, 0) + 1
            self._idle.pop(nodeid, None)
        return backing_id

    def give_back(self, nodeid: int) -> None:
        """Undo one `take`; the last ones that are used by nobody are kept for the next open."""
        with self._lock:
            self._counts[nodeid] = self._counts.get(nodeid, 1) - 1
            if self._counts[nodeid] > 0:
                return
            del self._counts[nodeid]
            self._idle[nodeid] = None
            if len(self._idle) > _IDLE:
                oldest, _ = self._idle.popitem(last=False)
                del self._backing[oldest]
                self._control.send(_MESSAGE.pack(_GIVE_BACK, oldest))

    def harvest(self, recorded: int) -> Numbered:
        """Return the first harvest after number *recorded*."""
        with self._lock:
            self._control.send(_MESSAGE.pack(_HARVEST, recorded))
            number, data = _receive_file(self._control)
        charges = [Charge(*fields) for fields in _CHARGE.iter_unpack(data[1:])]
        return Numbered(number, Harvest(charges, bool(data[0])))


def _send_file(control: socket.socket, number: int, data: bytes) -> None:
    file = Descriptor(os.memfd_create("nightingale-answer"))
    at = 0
    while at < len(data):
        at += os.pwrite(file.fd, data[at:], at)
    socket.send_fds(control, [_ANSWER.pack(number)], [file.fd])


def _receive_file(control: socket.socket) -> tuple[int, bytes]:
    message, files, _, _ = socket.recv_fds(control, _ANSWER.size, 1)
    if not message:
        raise OSError(errno.EPIPE, "the supervisor is gone")
    file = Descriptor(files[0])
    (number,) = _ANSWER.unpack(message)
    return number, os.pread(file.fd, os.fstat(file.fd).st_size, 0)
