"""The adapter that speaks to the kernel itself, over /dev/fuse: no library between.

A few threads take requests from one device and answer each wholly before the next: a reader that
waits for a slow disk does not hold up another. What a request means is in protocol.py, what is
served in tree.py; every open and read goes through the gate. Nothing here touches a path below
the mountpoint: that would wait for an answer from itself.
"""

import contextlib
import errno
import functools
import itertools
import logging
import mmap
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence

from nightingale_hub.fuse_audit import protocol
from nightingale_hub.fuse_audit.control import Control
from nightingale_hub.fuse_audit.files import Files, Request, get_policy
from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.handle import Caller
from nightingale_hub.fuse_audit.memory import Memory
from nightingale_hub.fuse_audit.nodes import Nodes
from nightingale_hub.fuse_audit.pipe import Pipe
from nightingale_hub.fuse_audit.tree import Entry, Node, Tree

WORKERS = 4
# Names and attributes are no reads of data: the kernel may keep them this long. A dataset is a
# snapshot, or is as old as this where it is not.
_VALID_S = 60
_REQUEST_BYTES = 1 << 17
_AGAIN = (errno.EINTR, errno.EAGAIN, errno.ENOENT)

_log = logging.getLogger(__name__)


class KernelServer:
    """Serves one tree through one gate to the kernel behind one device."""

    def __init__(
        self,
        device: int,
        tree: Tree,
        gate: Gate,
        memory: Memory,
        recorded: dict[int, int],
        control: Control,
        pipes: Sequence[Pipe],
    ) -> None:
        """Serve on the open descriptor *device* of a mounted /dev/fuse that has said INIT.

        *recorded* are the requests that a daemon before this one may have left unanswered.
        *control* does what only root may. Each of *pipes* is of one worker.
        """
        self._device = device
        self._tree = tree
        self._gate = gate
        self._memory = memory
        self._recorded = recorded
        self._pipes = pipes
        # Since when each worker has had its request in hand; 0 for one that waits for the next.
        self._taken_s = [0.0] * len(pipes)
        self._nodes = Nodes(tree, memory)
        self._files = Files(gate, self._nodes, control, self._reply)
        # No listing of a daemon before this one is taken for one of ours.
        self._numbers = itertools.count(time.monotonic_ns())
        self._listings: dict[int, list[Entry]] = {}
        self._answers: dict[int, Callable[[Request], bytes | None]] = {
            protocol.LOOKUP: self._lookup,
            protocol.FORGET: self._forget,
            protocol.BATCH_FORGET: self._forget_many,
            protocol.GETATTR: self._getattr,
            protocol.READLINK: self._readlink,
            protocol.OPEN: self._files.open,
            protocol.RELEASE: self._files.release,
            protocol.LSEEK: self._files.seek,
            protocol.OPENDIR: self._opendir,
            protocol.READDIR: self._readdir,
            protocol.RELEASEDIR: self._releasedir,
            protocol.STATFS: self._statfs,
            protocol.FLUSH: lambda request: b"",
            protocol.DESTROY: lambda request: b"",
            protocol.INTERRUPT: lambda request: None,
            protocol.IOCTL: _refuse_with(errno.ENOTTY),
        }
        self._answers |= dict.fromkeys(protocol.MUTATIONS, _refuse_with(errno.EROFS))

    def start(self) -> list[threading.Thread]:
        """Start the workers and return them; each ends when the mount is gone."""
        self._files.start()
        # Before anybody takes a request: what a worker of ours has in hand would come again too.
        with contextlib.suppress(OSError):  # A kernel before 6.9: nothing was kept for us.
            os.write(self._device, protocol.pack_resend())
        threads = [
            threading.Thread(target=self.serve, args=(number,), daemon=True)
            for number in range(len(self._pipes))
        ]
        for thread in threads:
            thread.start()
        return threads

    def is_stuck(self, after_s: float) -> bool:
        """Return whether every worker has had one request in hand for longer than *after_s*."""
        since_s = time.monotonic() - after_s
        return all(0 < taken_s < since_s for taken_s in self._taken_s)

    def close(self) -> None:
        """Record what was read past this process."""
        self._files.close()

    def serve(self, worker: int) -> None:
        """Answer requests until the mount is gone, as *worker*."""
        buffer = bytearray(_REQUEST_BYTES)
        into = [buffer]
        data = memoryview(mmap.mmap(-1, protocol.MAX_READ_BYTES))
        while True:
            try:
                size = os.readv(self._device, into)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                if error.errno != errno.ENODEV:
                    _log.error("the device of the mount failed: %s", error.strerror)
                return
            if size == 0:
                return
            self._taken_s[worker] = time.monotonic()
            self._answer(memoryview(buffer)[:size], data, worker)
            self._taken_s[worker] = 0.0

    def _answer(self, message: memoryview, data: memoryview, worker: int) -> None:
        _, opcode, unique, nodeid, uid, _, tid, _, _ = protocol.HEADER.unpack_from(message)
        first_unique = unique & ~protocol.RESENT
        caller = Caller(uid, tid, functools.partial(self._memory.note, worker, first_unique))
        recorded_fid = None
        if unique != first_unique:
            recorded_fid = self._recorded.get(first_unique)
            was = "not " if recorded_fid is None else ""
            _log.info("request %d comes again, %srecorded before", first_unique, was)
        request = Request(unique, nodeid, caller, message[protocol.HEADER.size :], recorded_fid)
        payload: bytes | memoryview | Pipe | None = b""
        code = 0
        try:
            if opcode == protocol.READ:
                payload = self._files.read(request, data, self._pipes[worker])
            else:
                answer = self._answers.get(opcode)
                if answer is None:
                    code = errno.ENOSYS
                else:
                    payload = answer(request)
        except OSError as error:
            code = error.errno or errno.EIO
        except Exception:  # noqa: BLE001  # A mistake of ours must not leave its caller waiting.
            _log.exception("request %d on node %d failed", opcode, nodeid)
            code = errno.EIO
        if payload is not None:
            self._reply(unique, code, b"" if code else payload)

    def _reply(self, unique: int, code: int, payload: bytes | memoryview | Pipe) -> None:
        try:
            if isinstance(payload, Pipe):
                payload.send(self._device)
                return
            head = protocol.REPLY.pack(protocol.REPLY.size + len(payload), -code, unique)
            os.writev(self._device, [head, payload])
        except OSError as error:
            # ENOENT: the caller was killed and waits no more. ENODEV: nor does anybody else.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                _log.error("a reply was not taken: %s", error.strerror)

    def _lookup(self, request: Request) -> bytes:
        name = bytes(request.body).split(b"\0", 1)[0]
        node = self._tree.get_child(self._nodes.get(request.nodeid), name)
        found = self._tree.stat(node)
        # The page cache of a file that is passed through is that of its source, and of no record.
        is_shared = not get_policy(node).has_every_read
        nodeid = self._nodes.remember(
            request.nodeid, node, found.ino, request.caller.tid, is_shared=is_shared
        )
        valid_s = 0 if _is_own(node) else _VALID_S
        # A file that is read here is looked up anew at each open: nodes.py says why.
        is_renewed = stat.S_ISREG(found.mode) and not is_shared
        return protocol.pack_entry(nodeid, found, 0 if is_renewed else valid_s, valid_s)

    def _forget(self, request: Request) -> None:
        self._nodes.forget(request.nodeid, *protocol.FORGET_IN.unpack_from(request.body))

    def _forget_many(self, request: Request) -> None:
        count, _ = protocol.BATCH_FORGET_IN.unpack_from(request.body)
        for index in range(count):
            at = protocol.BATCH_FORGET_IN.size + index * protocol.FORGET_ONE.size
            self._nodes.forget(*protocol.FORGET_ONE.unpack_from(request.body, at))

    def _getattr(self, request: Request) -> bytes:
        flags, _, fid = protocol.GETATTR_IN.unpack_from(request.body)
        if flags & protocol.GETATTR_FH:
            return protocol.pack_attributes(self._gate.stat(fid), _VALID_S)
        node = self._nodes.get(request.nodeid)
        valid_s = 0 if _is_own(node) else _VALID_S
        return protocol.pack_attributes(self._tree.stat(node), valid_s)

    def _readlink(self, request: Request) -> bytes:
        return self._tree.read_link(self._nodes.get(request.nodeid))

    def _opendir(self, request: Request) -> bytes:
        number = next(self._numbers)
        return protocol.OPEN_OUT.pack(number, protocol.OPEN_FLAGS_DIRECTORY, 0)

    def _readdir(self, request: Request) -> bytes:
        number, offset, size, _, _, _, _ = protocol.READ_IN.unpack_from(request.body)
        # One listing serves all pages of a scan: names cannot shift between two of them.
        # A daemon that was started in the middle of one makes it anew, from a tree at rest.
        if offset == 0 or number not in self._listings:
            node = self._nodes.get(request.nodeid)
            ino = self._tree.stat(node).ino
            dots = [Entry(b".", ino, stat.S_IFDIR), Entry(b"..", ino, stat.S_IFDIR)]
            self._listings[number] = dots + self._tree.list_entries(node)
        return protocol.pack_entries(self._listings[number], offset, size)

    def _releasedir(self, request: Request) -> bytes:
        (number,) = protocol.HANDLE_IN.unpack_from(request.body)
        self._listings.pop(number, None)
        return b""

    def _statfs(self, request: Request) -> bytes:
        return protocol.pack_space(self._tree.get_space(self._nodes.get(request.nodeid)))


def _is_own(node: Node) -> bool:
    """Whether *node* is what the mount says of itself, which changes."""
    return node.dataset is None and node.parent is not None


def _refuse_with(code: int) -> Callable[[Request], bytes]:
    def refuse(request: Request) -> bytes:
        raise OSError(code, os.strerror(code))

    return refuse
