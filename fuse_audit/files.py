"""Files that are open through the kernel adapter: opened, read and released, by their policy.

A file of policy `strict` is read here, past the page cache. One of `ranges` or `opens` is
registered with the kernel, which reads it by itself. Either way the record stands first, and what
a daemon before this one has recorded and not answered is answered without a second record.
"""

import errno
import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

from nightingale_hub.fuse_audit import protocol
from nightingale_hub.fuse_audit.charges import Charges
from nightingale_hub.fuse_audit.control import Control
from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.handle import Caller, Handle
from nightingale_hub.fuse_audit.nodes import Nodes, Opened
from nightingale_hub.fuse_audit.pipe import WORTH_BYTES, Pipe
from nightingale_hub.fuse_audit.policy import STRICT, Policy
from nightingale_hub.fuse_audit.process import restore_process
from nightingale_hub.fuse_audit.ranges import TO_THE_END
from nightingale_hub.fuse_audit.tree import Node

_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """One request: its number, its node, its caller, and what follows its header."""

    unique: int
    nodeid: int
    caller: Caller
    body: memoryview
    # The open file that it was recorded for before, by a daemon that died before it answered.
    recorded_fid: int | None


class Files:
    """The open files of one mount."""

    def __init__(
        self,
        gate: Gate,
        nodes: Nodes,
        control: Control,
        reply: Callable[[int, int, bytes], None],
    ) -> None:
        """Open through *gate*; *reply* answers a request that is answered later."""
        self._gate = gate
        self._nodes = nodes
        self._control = control
        self._reply = reply
        self._charges = Charges(gate, control.harvest)

    def start(self) -> None:
        """Take over what is open since before, as the daemon that died would have."""
        self._control.load()
        for opened in self._nodes.list_opened():
            try:
                handle = adopt(self._gate, self._nodes, opened)
                self._let_read(handle, opened.nodeid)
            except OSError as error:
                _log.error("handle %d is lost: %s", opened.fid, error.strerror)
        self._charges.start()

    def close(self) -> None:
        """Record what was read past this process."""
        self._charges.close()

    def open(self, request: Request) -> bytes:
        """Open a file for reading."""
        flags, _ = protocol.OPEN_IN.unpack_from(request.body)
        node = self._nodes.get(request.nodeid)
        policy = get_policy(node)
        fid = request.recorded_fid
        if fid and self._nodes.find_opened(fid) is not None:
            return _pack_open(fid, policy, self._control.find(request.nodeid))
        is_alone = policy.has_every_read
        if is_alone:
            self._nodes.open(request.nodeid, request.caller)
        try:
            handle = self._open(node, flags, request)
            reply = self._let_read(handle, request.nodeid)
        except BaseException:
            if is_alone:
                self._nodes.release(request.nodeid, request.caller.uid)
            raise
        self._nodes.keep_open(
            Opened(handle.fid, request.nodeid, request.caller.uid, flags, handle.opener.fields)
        )
        return reply

    def read(self, request: Request, data: memoryview, pipe: Pipe) -> memoryview | Pipe:
        """Read into *pipe*, or into *data*, and return where it is."""
        fid, offset, size, _, _, _, _ = protocol.READ_IN.unpack_from(request.body)
        is_recorded = request.recorded_fid is not None
        if size < WORTH_BYTES:
            length = self._gate.read(
                fid, data[:size], offset, request.caller, is_recorded=is_recorded
            )
            return data[:length]
        pipe.begin(request.unique)
        length = self._gate.read(
            fid, data[:size], offset, request.caller, take=pipe.take, is_recorded=is_recorded
        )
        return pipe if len(pipe) else data[:length]

    def release(self, request: Request) -> bytes | None:
        """Close a file; None when that is answered later, behind what was read of it."""
        (fid,) = protocol.HANDLE_IN.unpack_from(request.body)
        if self._nodes.find_opened(fid) is None:  # A daemon before this one has closed it.
            return b""
        handle = self._gate.get_handle(fid)
        policy = get_policy(handle.node)
        if policy.has_every_read:
            return self._finish_release(request, fid)
        self._control.give_back(request.nodeid)
        if not policy.has_ranges:
            return self._finish_release(request, fid)
        self._charges.release(handle, functools.partial(self._release_later, request, fid))
        return None

    def seek(self, request: Request) -> bytes:
        """Find data or a hole."""
        fid, offset, whence, _ = protocol.LSEEK_IN.unpack_from(request.body)
        return protocol.LSEEK_OUT.pack(self._gate.seek(fid, offset, whence))

    def _open(self, node: Node, flags: int, request: Request) -> Handle:
        fid, caller = request.recorded_fid, request.caller
        if fid:
            opener = self._gate.processes.find_opener(caller.tid)
            return self._gate.adopt(node, flags, caller.uid, fid, opener)
        # Recorded, and for no open file: it was denied.
        return self._gate.open(node, flags, caller, is_recorded=fid is not None)

    def _let_read(self, handle: Handle, nodeid: int) -> bytes:
        """Return the reply to the open of *handle*; its reads come here, or go past."""
        policy = get_policy(handle.node)
        backing_id = 0
        if not policy.has_every_read:
            try:
                backing_id = self._control.take(nodeid, handle.file.fd)
            except OSError:
                self._gate.release(handle.fid)
                raise
            if policy.has_ranges:
                self._charges.add(handle)
            if policy.has_ranges and not self._control.is_watched(handle.file.fd):
                # It lies on another filesystem, of which the kernel tells nothing.
                self._gate.charge(handle, 0, TO_THE_END, handle.uid, handle.opener)
        return _pack_open(handle.fid, policy, backing_id)

    def _finish_release(self, request: Request, fid: int) -> bytes:
        opened = self._nodes.find_opened(fid)
        if opened is not None:
            self._nodes.release(request.nodeid, opened.uid)
        is_recorded = request.recorded_fid is not None
        self._gate.release(fid, request.caller.about_to, is_recorded=is_recorded)
        self._nodes.close(fid)
        return b""

    def _release_later(self, request: Request, fid: int) -> None:
        code = 0
        try:
            self._finish_release(request, fid)
        except OSError as error:
            code = error.errno or errno.EIO
        self._reply(request.unique, code, b"")


def adopt(gate: Gate, nodes: Nodes, opened: Opened) -> Handle:
    """Return the handle of what a daemon before this one has *opened*; raises `OSError`."""
    opener = restore_process(opened.process)
    return gate.adopt(nodes.get(opened.nodeid), opened.flags, opened.uid, opened.fid, opener)


def settle(gate: Gate, nodes: Nodes) -> None:
    """Record the end of what was open when a mount before this one was lost with its supervisor.

    Nobody knows what was read of a file of policy `ranges` since its last harvest: all of it.
    """
    for opened in nodes.list_opened():
        try:
            handle = adopt(gate, nodes, opened)
            policy = get_policy(handle.node)
            if policy.has_ranges and not policy.has_every_read:
                gate.charge(handle, 0, TO_THE_END, handle.uid, handle.opener)
            gate.release(handle.fid)
        except OSError as error:
            _log.error("the end of handle %d is not recorded: %s", opened.fid, error.strerror)


def get_policy(node: Node) -> Policy:
    """Return the policy by which *node* is read; what is the mount's own is read here."""
    return STRICT if node.dataset is None else node.dataset.policy


def _pack_open(fid: int, policy: Policy, backing_id: int) -> bytes:
    if policy.has_every_read:
        return protocol.OPEN_OUT.pack(fid, protocol.OPEN_FLAGS_STRICT, 0)
    return protocol.OPEN_OUT.pack(fid, protocol.OPEN_FLAGS_PASSTHROUGH, backing_id)
