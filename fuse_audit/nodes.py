"""The numbers by which the kernel knows nodes, for as long as it remembers them.

A number means one name in one directory, and one file under it. It is given up when the kernel
has forgotten it as often as it has looked it up, and it is never used again.

The kernel keeps one page cache per number, and mmap, sendfile and splice read from it without
asking here. If two readers shared a number, the second would get pages that only the first is
recorded for. So a number is open once: while it is, each lookup of its name gets a new one, and
an open that comes in over the old number is sent back (ESTALE) to look the name up again, which
the kernel does by itself. Only a path like /dev/fd/3 has no name to look up: it comes back with
the number it had, and then shares it, if its user is the one who opened it.
"""

import errno
import itertools
import threading

from nightingale_hub.fuse_audit.gate import Caller
from nightingale_hub.fuse_audit.protocol import ROOT_ID
from nightingale_hub.fuse_audit.tree import Node

_SENT_BACK = 1024


class Nodes:
    """The table of node numbers of one mount."""

    def __init__(self, root: Node) -> None:
        """Know *root* alone; it is never forgotten."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(ROOT_ID + 1)
        self._nodes: dict[int, Node] = {ROOT_ID: root}
        self._counts: dict[int, int] = {}
        self._keys: dict[int, tuple[int, bytes, int]] = {}
        self._ids: dict[tuple[int, bytes, int], int] = {}
        self._opened: dict[int, list[int]] = {}
        self._sent_back: dict[int, int] = {}

    def __len__(self) -> int:
        """Count the numbers that the kernel remembers, with the root's."""
        return len(self._nodes)

    def get(self, nodeid: int) -> Node:
        """Return the node of *nodeid*; raises ESTALE."""
        node = self._nodes.get(nodeid)
        if node is None:
            raise OSError(errno.ESTALE, "no such node")
        return node

    def remember(self, parent_id: int, node: Node, ino: int, tid: int) -> int:
        """Return a number of *node*, file *ino* in *parent_id*, which thread *tid* looked up.

        A thread that was sent back gets a number of its own, which nobody can open before it.
        """
        key = (parent_id, node.name, ino)
        with self._lock:
            is_own = tid in self._sent_back
            nodeid = self._ids.get(key)
            if nodeid is None or nodeid in self._opened or is_own:
                nodeid = next(self._numbers)
                if not is_own:
                    self._ids.setdefault(key, nodeid)
                self._keys[nodeid] = key
                self._nodes[nodeid] = node
                self._counts[nodeid] = 0
            self._counts[nodeid] += 1
        return nodeid

    def forget(self, nodeid: int, lookups: int) -> None:
        """Give *lookups* of *nodeid* back."""
        with self._lock:
            if nodeid not in self._counts:
                return
            self._counts[nodeid] -= lookups
            if self._counts[nodeid] > 0:
                return
            del self._counts[nodeid], self._nodes[nodeid]
            key = self._keys.pop(nodeid)
            if self._ids.get(key) == nodeid:
                del self._ids[key]

    def open(self, nodeid: int, caller: Caller) -> None:
        """Take *nodeid* for *caller*'s open; raises ESTALE when the kernel must look again."""
        with self._lock:
            uids = self._opened.get(nodeid)
            was_sent_back = self._sent_back.pop(caller.tid, None) == nodeid
            if uids is None:
                self._opened[nodeid] = [caller.uid]
                return
            if was_sent_back and caller.uid in uids:
                uids.append(caller.uid)
                return
            self._sent_back[caller.tid] = nodeid
            if len(self._sent_back) > _SENT_BACK:
                del self._sent_back[next(iter(self._sent_back))]
        raise OSError(errno.ESTALE, "open already")

    def release(self, nodeid: int, uid: int) -> None:
        """Give back what `open` took for *uid*."""
        with self._lock:
            uids = self._opened.get(nodeid, [])
            if uid in uids:
                uids.remove(uid)
            if not uids:
                self._opened.pop(nodeid, None)
