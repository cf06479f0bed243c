"""The portable adapter: the same tree and gate under libfuse, through mfusepy.

It serves where the kernel adapter does not, and is slower. Two things it cannot do, for libfuse
numbers the nodes itself: a shared mapping of a file is refused, and two readers that hold one
file open at once share its page cache, so that what both take by sendfile, splice or a private
mapping is recorded for the one who brought it in. read and its like are exact, as everywhere.
"""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit import mountpoint
from nightingale_hub.fuse_audit.configuration import Dataset, MountConfiguration
from nightingale_hub.fuse_audit.gate import Gate
from nightingale_hub.fuse_audit.handle import Caller
from nightingale_hub.fuse_audit.policy import Policy
from nightingale_hub.fuse_audit.protocol import MAX_READ_BYTES
from nightingale_hub.fuse_audit.tree import Attributes, Tree

try:
    import mfusepy
except (ImportError, OSError) as missing:
    raise MountRefused(f"the libfuse adapter needs libfuse and mfusepy: {missing}") from missing


class Operations:
    """What mfusepy calls, by path; it knows these methods by their names."""

    use_ns = True

    def __init__(self, tree: Tree, gate: Gate, announce: Callable[[], None]) -> None:
        """Serve *tree* through *gate*; *announce* is called once the kernel is answered."""
        self._tree = tree
        self._gate = gate
        self._announce = announce
        self._own = threading.local()

    def init(self, path: str) -> None:
        """Say that the mount is served."""
        self._announce()

    def getattr(self, path: str, file: Any = None) -> dict[str, int]:
        """Return the attributes of *path*, or of the open *file*."""
        if file is not None:
            return _name_attributes(self._gate.stat(file.fh))
        return _name_attributes(self._tree.stat(self._tree.get_node(os.fsencode(path))))

    def readdir(self, path: str, handle: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """Yield each entry of the directory *path*."""
        node = self._tree.get_node(os.fsencode(path))
        ino = self._tree.stat(node).ino
        for dots in (".", ".."):
            yield dots, {"st_ino": ino, "st_mode": 0o040000}, 0
        for entry in self._tree.list_entries(node):
            yield os.fsdecode(entry.name), {"st_ino": entry.ino, "st_mode": entry.kind}, 0

    def readlink(self, path: str) -> str:
        """Return the text of the symbolic link *path*."""
        return os.fsdecode(self._tree.read_link(self._tree.get_node(os.fsencode(path))))

    def statfs(self, path: str) -> dict[str, int]:
        """Return the space of the filesystem under *path*."""
        space = self._tree.get_space(self._tree.get_node(os.fsencode(path)))
        return {name: getattr(space, name) for name in dir(space) if name.startswith("f_")}

    def open(self, path: str, file: Any) -> int:
        """Open *path* for its caller, past the page cache."""
        node = self._tree.get_node(os.fsencode(path))
        file.fh = self._gate.open(node, file.flags, _get_caller()).fid
        file.direct_io = 1
        return 0

    def read(self, path: str, size: int, offset: int, file: Any) -> bytes:
        """Return up to *size* bytes of the open *file* from *offset*."""
        buffer = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = memoryview(bytearray(MAX_READ_BYTES))
        length = self._gate.read(file.fh, buffer[:size], offset, _get_caller())
        return bytes(buffer[:length])

    def release(self, path: str, file: Any) -> int:
        """Close the open *file*."""
        self._gate.release(file.fh)
        return 0


def serve(
    configuration: MountConfiguration, tree: Tree, gate: Gate, announce: Callable[[], None]
) -> None:
    """Mount and serve until SIGTERM or SIGINT. Raises `MountRefused`."""
    path = configuration.mountpoint
    mountpoint.open_mountpoint(path)
    try:
        mfusepy.FUSE(
            Operations(tree, gate, announce),
            path,
            raw_fi=True,
            foreground=True,
            ro=True,
            nosuid=True,
            nodev=True,
            noexec=True,
            default_permissions=True,
            allow_other=configuration.allow_other,
            use_ino=True,
            fsname=mountpoint.SOURCE,
            subtype=mountpoint.SOURCE,
            max_read=MAX_READ_BYTES,
        )
    except RuntimeError as error:
        raise MountRefused(f"libfuse did not mount {path}: status {error}") from error


def find_obstacle(dataset: Dataset, policy: Policy) -> str | None:
    """Return why *policy* cannot be kept by this adapter, or None when it can."""
    if policy.has_every_read:
        return None
    return "libfuse of this kind knows no passthrough; use the adapter kernel"


def _get_caller() -> Caller:
    uid, _, tid = mfusepy.fuse_get_context()
    return Caller(uid, tid)


def _name_attributes(found: Attributes) -> dict[str, int]:
    return {
        "st_ino": found.ino,
        "st_size": found.size,
        "st_blocks": found.blocks,
        "st_atime": found.atime_ns,
        "st_mtime": found.mtime_ns,
        "st_ctime": found.ctime_ns,
        "st_mode": found.mode,
        "st_nlink": found.nlink,
        "st_uid": found.uid,
        "st_gid": found.gid,
        "st_blksize": found.blksize,
    }
