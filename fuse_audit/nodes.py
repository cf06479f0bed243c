"""The numbers by which the kernel knows nodes, for as long as it remembers them.

A number means one name in one directory, and one file under it. It is given up when the kernel
has forgotten it as often as it has looked it up, and it is never used again.

The kernel keeps one page cache per number, and mmap, sendfile and splice read from it without
asking here. If two readers shared a number, the second would get pages that only the first is
recorded for. So a number is open once: while it is, each lookup of its name gets a new one, and
an open that comes in over the old number is sent back (ESTALE) to look the name up again, which
the kernel does by itself. Only a path like /dev/fd/3 has no name to look up: it comes back with
the number it had, and then shares it, if its user is the one who opened it.

What is known of numbers and of open files stands in `Memory` too, before the kernel hears of it:
a daemon that follows one that was killed knows what the kernel knows.
"""

import errno
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

from nightingale_hub.fuse_audit.handle import Caller
from nightingale_hub.fuse_audit.memory import Memory
from nightingale_hub.fuse_audit.protocol import ROOT_ID
from nightingale_hub.fuse_audit.tree import Node, Tree

_SENT_BACK = 1024
_REWRITE_BYTES = 1 << 20
_NEXT, _NODE, _DROP, _OPEN, _CLOSE = range(5)
_KIND_AND_NUMBER = struct.Struct("<BQ")
_NODE_ENTRY = struct.Struct("<BQQQ")
_OPEN_ENTRY = struct.Struct("<BQQII")


class Opened(NamedTuple):
    """One open file as the kernel knows it; `process` are the opener's fields in its records."""

    fid: int
    nodeid: int
    uid: int
    flags: int
    process: bytes


class Nodes:
    """The table of node numbers of one mount."""

    def __init__(self, tree: Tree, memory: Memory) -> None:
        """Know the root, which is never forgotten, and what *memory* kept of a daemon before."""
        self._lock = threading.Lock()
        self._memory = memory
        self._next = ROOT_ID + 1
        self._nodes: dict[int, Node] = {ROOT_ID: tree.root}
        self._counts: dict[int, int] = {}
        self._keys: dict[int, tuple[int, bytes, int]] = {}
        self._ids: dict[tuple[int, bytes, int], int] = {}
        self._opened: dict[int, list[int]] = {}
        self._files: dict[int, Opened] = {}
        self._sent_back: dict[int, int] = {}
        # How often the kernel has looked up what was known before is not known any more.
        self._is_kept: set[int] = set()
        self._load(tree)
        self._rewrite_at = _REWRITE_BYTES

    def __len__(self) -> int:
        """Count the numbers that the kernel remembers, with the root's."""
        return len(self._nodes)

    def get(self, nodeid: int) -> Node:
        """Return the node of *nodeid*; raises ESTALE."""
        node = self._nodes.get(nodeid)
        if node is None:
            raise OSError(errno.ESTALE, "no such node")
        return node

    def list_opened(self) -> list[Opened]:
        """Return the files that are open."""
        return list(self._files.values())

    def remember(
        self, parent_id: int, node: Node, ino: int, tid: int, *, is_shared: bool = False
    ) -> int:
        """Return a number of *node*, file *ino* in *parent_id*, which thread *tid* looked up.

        A thread that was sent back gets a number of its own, which nobody can open before it.
        With *is_shared* all readers share one: where no record rests on the page cache.
        """
        key = (parent_id, node.name, ino)
        with self._lock:
            is_own = not is_shared and tid in self._sent_back
            nodeid = self._ids.get(key)
            is_taken = not is_shared and nodeid in self._opened
            if nodeid is None or is_taken or is_own:
                nodeid = self._next
                self._next += 1
                self._keep(_NODE_ENTRY.pack(_NODE, nodeid, parent_id, ino) + node.name)
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
            if nodeid not in self._counts or nodeid in self._is_kept:
                return
            self._counts[nodeid] -= lookups
            if self._counts[nodeid] > 0:
                return
            self._keep(_KIND_AND_NUMBER.pack(_DROP, nodeid))
            self._drop(nodeid)

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

    def keep_open(self, opened: Opened) -> None:
        """Keep that a file is open, before the kernel hears so."""
        with self._lock:
            self._keep(_pack_opened(opened))
            self._files[opened.fid] = opened

    def find_opened(self, fid: int) -> Opened | None:
        """Return the open file *fid*, if it is one."""
        return self._files.get(fid)

    def close(self, fid: int) -> None:
        """Keep that *fid* is open no more."""
        with self._lock:
            if self._files.pop(fid, None) is not None:
                self._keep(_KIND_AND_NUMBER.pack(_CLOSE, fid))

    def _keep(self, entry: bytes) -> None:
        if self._memory.append(entry) > self._rewrite_at:
            # The entry is in the memory already, and not among those that are listed here.
            size = self._memory.rewrite([*self._list_entries(), entry])
            self._rewrite_at = max(_REWRITE_BYTES, 2 * size)

    def _drop(self, nodeid: int) -> None:
        del self._counts[nodeid], self._nodes[nodeid]
        key = self._keys.pop(nodeid)
        if self._ids.get(key) == nodeid:
            del self._ids[key]

    def _list_entries(self) -> Iterator[bytes]:
        yield _KIND_AND_NUMBER.pack(_NEXT, self._next)
        for nodeid, (parent_id, name, ino) in self._keys.items():
            yield _NODE_ENTRY.pack(_NODE, nodeid, parent_id, ino) + name
        for opened in self._files.values():
            yield _pack_opened(opened)

    def _load(self, tree: Tree) -> None:
        for entry in self._memory.load():
            kind, number = _KIND_AND_NUMBER.unpack_from(entry)
            if kind == _NEXT:
                self._next = number
            elif kind == _NODE:
                _, _, parent_id, ino = _NODE_ENTRY.unpack_from(entry)
                self._load_node(tree, number, (parent_id, entry[_NODE_ENTRY.size :], ino))
            elif kind == _DROP and number in self._counts:
                self._drop(number)
            elif kind == _OPEN:
                _, fid, nodeid, uid, flags = _OPEN_ENTRY.unpack_from(entry)
                self._files[fid] = Opened(fid, nodeid, uid, flags, entry[_OPEN_ENTRY.size :])
            elif kind == _CLOSE:
                self._files.pop(number, None)
        self._is_kept = set(self._counts)
        for opened in self._files.values():
            self._opened.setdefault(opened.nodeid, []).append(opened.uid)

    def _load_node(self, tree: Tree, nodeid: int, key: tuple[int, bytes, int]) -> None:
        parent = self._nodes.get(key[0])
        self._next = max(self._next, nodeid + 1)
        if parent is None:
            return  # The kernel forgot the directory, and what is in it before.
        try:
            self._nodes[nodeid] = tree.get_child(parent, key[1])
        except OSError:
            return  # Of a mount before this one, and no dataset of this one.
        self._keys[nodeid] = key
        self._ids.setdefault(key, nodeid)
        self._counts[nodeid] = 0


def _pack_opened(opened: Opened) -> bytes:
    fid, nodeid, uid, flags, process = opened
    return _OPEN_ENTRY.pack(_OPEN, fid, nodeid, uid, flags) + process
