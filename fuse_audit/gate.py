"""The gate: the only way to the bytes of a dataset, and it writes the record first.

The law: an open, a read and a release are in the spool before their caller hears of them, and
what cannot be recorded does not happen (EIO, no data). A refused open is recorded as denied. A
name that does not exist is no event, nor is the status that the mount itself writes. Adapters call
nothing of the tree that opens or reads a file; this module knows none of them.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable

from nightingale_hub.fuse_audit import record
from nightingale_hub.fuse_audit.accounts import Reader
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.guard import Guard
from nightingale_hub.fuse_audit.handle import Caller, Handle, Take, find_most_open, read_into
from nightingale_hub.fuse_audit.process import Process, Processes
from nightingale_hub.fuse_audit.spool import Spool
from nightingale_hub.fuse_audit.tree import Attributes, Node, Tree

# Handles of the mount's own status; no record ever has so high a number.
_OWN_FIDS = 1 << 62
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_APPEND

_log = logging.getLogger(__name__)


class Gate:
    """Opens, reads and releases the files of one tree for one owner, into one spool."""

    def __init__(
        self,
        tree: Tree,
        spool: Spool,
        owner: str,
        processes: Processes,
        clock: Callable[[], int],
        guard: Guard,
        *,
        reader: Reader | None = None,
        waits_for_hub: bool = False,
    ) -> None:
        """Record for the hub user *owner*; *clock* gives the time in µs.

        *guard* says what is refused for want of an audit. With a *reader* that account alone opens
        files. With *waits_for_hub* the hub has a record before its caller hears of it.
        """
        self._tree = tree
        self._spool = spool
        self._user = record.encode_text(owner)
        self.processes = processes
        self._clock = clock
        self._guard = guard
        self._reader = reader
        self._waits_for_hub = waits_for_hub
        self._lock = threading.Lock()
        self._handles: dict[int, Handle] = {}
        self._most_open = find_most_open()
        self._is_closed = False
        self._is_recording = True
        # A handle's number is at most the sequence number of its open, so it is never used again.
        self._next_fid = spool.next_seq
        self._next_own_fid = _OWN_FIDS

    def open(self, node: Node, flags: int, caller: Caller, *, is_recorded: bool = False) -> Handle:
        """Open *node* for reading and return its handle. Raises `OSError` for the caller.

        With *is_recorded* a daemon before this one has recorded that it is denied.
        """
        process = self.processes.find_opener(caller.tid)
        started_ns = time.monotonic_ns()
        try:
            self._check_open(node, flags, caller)
            file, found = self._tree.open(node)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not is_recorded and node.dataset is not None:
                self._record_denied(node, flags, caller, process, error.errno or errno.EIO)
            raise
        if node.dataset is None:
            return self._open_own(node, file, flags, caller, process)
        policy = node.dataset.policy.name.encode()
        with self._lock:
            if self._is_closed:
                raise OSError(errno.EIO, "the audit mount is closing")
            fid = self._next_fid
            fields = record.encode_file(node.dataset.name, node.path, fid, found.ino)
            handle = Handle(fid, node, file, process, caller.uid, fields, flags, policy)
            length = 0 if node.dataset.policy.has_ranges else found.size
            self._append(
                record.OPEN, handle, caller.uid, process, length=length,
                took_us=(time.monotonic_ns() - started_ns) // 1000, about_to=caller.about_to,
            )  # fmt: skip
            self._next_fid += 1
            self._handles[fid] = handle
        return handle

    def adopt(self, node: Node, flags: int, uid: int, fid: int, opener: Process) -> Handle:
        """Take over the handle *fid* of a daemon before this one, which has recorded its open.

        Raises `OSError` when its file is not to be had any more.
        """
        file, found = self._tree.open(node)
        policy = fields = b""
        if node.dataset is None:
            self._next_own_fid = max(self._next_own_fid, fid)
        else:
            policy = node.dataset.policy.name.encode()
            fields = record.encode_file(node.dataset.name, node.path, fid, found.ino)
        handle = Handle(fid, node, file, opener, uid, fields, flags, policy)
        self._handles[fid] = handle
        return handle

    def read(
        self,
        fid: int,
        buffer: memoryview,
        offset: int,
        caller: Caller,
        *,
        take: Take = read_into,
        is_recorded: bool = False,
    ) -> int:
        """Read into *buffer* from *offset* of the file, by *take*, and return how many bytes.

        With *is_recorded* a daemon before this one has recorded it. Raises `OSError`.
        """
        handle = self.get_handle(fid)
        if handle.node.dataset is None:
            return take(handle.file.fd, buffer, offset)
        if self._guard.refuses_reads:
            raise OSError(errno.EIO, self._guard.why)
        if is_recorded:
            self._wait_stored(self._spool.next_seq - 1)
            return take(handle.file.fd, buffer, offset)
        process = self.processes.find(caller.tid)
        started_ns = time.monotonic_ns()
        length = code = 0
        try:
            length = take(handle.file.fd, buffer, offset)
        except OSError as error:
            code = error.errno or errno.EIO
        self._append(
            record.READ, handle, caller.uid, process, offset=offset, length=length, code=code,
            took_us=(time.monotonic_ns() - started_ns) // 1000, about_to=caller.about_to,
        )  # fmt: skip
        if code:
            raise OSError(code, os.strerror(code))
        return length

    def release(
        self,
        fid: int,
        about_to: Callable[[int, int], None] | None = None,
        *,
        is_recorded: bool = False,
    ) -> None:
        """Close one handle, in its opener's name: the kernel does not say who released it."""
        handle = self._handles.pop(fid, None)
        if handle is not None and handle.node.dataset is not None and not is_recorded:
            self._append(record.RELEASE, handle, handle.uid, handle.opener, about_to=about_to)

    def charge(self, handle: Handle, offset: int, end: int, uid: int, process: Process) -> None:
        """Record what the kernel has served of *handle* by itself: up to *end* or the file's."""
        length = min(end, self.describe(handle).size) - offset
        if length > 0:
            self._append(record.READ, handle, uid, process, offset=offset, length=length)

    def get_handle(self, fid: int) -> Handle:
        """Return the handle *fid*; raises EBADF."""
        handle = self._handles.get(fid)
        if handle is None or self._is_closed:
            raise OSError(errno.EBADF, "no such handle")
        return handle

    def stat(self, fid: int) -> Attributes:
        """Return the attributes of the open file *fid*."""
        return self.describe(self.get_handle(fid))

    def describe(self, handle: Handle) -> Attributes:
        """Return the attributes of the file of *handle*."""
        return self._tree.stat_open(handle.node, handle.file)

    def seek(self, fid: int, offset: int, whence: int) -> int:
        """Return where the data or the hole at or behind *offset* begins."""
        return os.lseek(self.get_handle(fid).file.fd, offset, whence)

    def close(self) -> bool:
        """Refuse everything from now on; return whether all releases are recorded."""
        self._guard.look()  # What was sent until now is recorded too.
        with self._lock:
            self._is_closed = True
        is_recorded = True
        for fid in list(self._handles):
            try:
                self.release(fid)
            except OSError as error:
                is_recorded = False
                _log.error("the release of handle %d is not recorded: %s", fid, error.strerror)
        return is_recorded

    def _check_open(self, node: Node, flags: int, caller: Caller) -> None:
        """Raise what refuses the open, whatever the file is."""
        if flags & _WRITING:
            raise OSError(errno.EROFS, "read-only")
        if node.dataset is not None and len(self._handles) >= self._most_open:
            raise OSError(errno.EMFILE, "too many files are open")
        if node.dataset is None:
            return
        if self._reader is not None and not self._reader.owns(caller.uid):
            raise OSError(errno.EACCES, "this user id is nobody's who may read")
        if self._guard.is_withdrawn(node.dataset.name):
            raise OSError(errno.EACCES, "the dataset is no longer granted")
        if self._guard.refuses_opens:
            raise OSError(errno.EIO, self._guard.why)

    def _open_own(
        self, node: Node, file: Descriptor, flags: int, caller: Caller, process: Process
    ) -> Handle:
        with self._lock:
            self._next_own_fid += 1
            handle = Handle(self._next_own_fid, node, file, process, caller.uid, b"", flags, b"")
            self._handles[handle.fid] = handle
        return handle

    def _record_denied(
        self, node: Node, flags: int, caller: Caller, process: Process, code: int
    ) -> None:
        assert node.dataset is not None
        try:
            ino = self._tree.stat(node).ino
        except OSError:
            ino = 0
        event = record.format_event(
            self._clock(),
            record.DENIED,
            self._user,
            caller.uid,
            process.fields,
            record.encode_file(node.dataset.name, node.path, 0, ino),
            flags=flags,
            errno=code,
            policy=node.dataset.policy.name.encode(),
            more=process.origin,
        )
        self._write(event, 0, caller.about_to, may_pass_limit=False)

    def _append(
        self,
        act: bytes,
        handle: Handle,
        uid: int,
        process: Process,
        *,
        offset: int = 0,
        length: int = 0,
        took_us: int = 0,
        code: int = 0,
        about_to: Callable[[int, int], None] | None = None,
    ) -> None:
        more = b""
        if act is record.OPEN:
            more = process.origin
        elif process is not handle.opener and process.fields != handle.opener.fields:
            # A descriptor that was passed on, or kept over a fork or an exec: both parties.
            more = record.encode_opener(handle.uid, handle.opener.fields) + process.origin
        event = record.format_event(
            self._clock(), act, self._user, uid, process.fields, handle.fields,
            offset=offset, length=length, took_us=took_us, flags=handle.flags, errno=code,
            policy=handle.policy, more=more,
        )  # fmt: skip
        self._write(event, handle.fid, about_to, may_pass_limit=act is not record.OPEN)

    def _write(
        self,
        event: bytes,
        fid: int,
        about_to: Callable[[int, int], None] | None,
        *,
        may_pass_limit: bool,
    ) -> None:
        note = None if about_to is None else lambda seq: about_to(seq, fid)
        try:
            seq = self._spool.append(event, may_pass_limit=may_pass_limit, about_to=note)
            self._is_recording = True
        except OSError as error:
            if self._is_recording:
                _log.error("what cannot be recorded is refused from now on: %s", error.strerror)
            self._is_recording = False
            raise OSError(errno.EIO, "the audit spool takes no record") from error
        self._wait_stored(seq)

    def _wait_stored(self, seq: int) -> None:
        if self._waits_for_hub and not self._guard.wait_stored(seq):
            raise OSError(errno.EIO, "the hub has not stored the record")
