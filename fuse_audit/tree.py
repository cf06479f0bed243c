"""The tree that a mount serves: a synthetic root, a directory per dataset, and what is below.

Every name is resolved from an open directory, one component at a time, and never through a
symbolic link: so nothing outside a dataset's directory is reachable, whatever a link in it says.
A link's text is served; whoever follows it does so with their own rights. One file beside the
datasets is the mount's own: what it says of itself.

Fifos, sockets and device nodes are served as empty regular files of mode 0 that refuse to open: a
fifo served as one would be the kernel's own, a channel between readers that no record sees.

This module knows neither FUSE nor records.
"""

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from nightingale_hub.fuse_audit.configuration import Dataset
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.extra import Folder, group_extras
from nightingale_hub.fuse_audit.node import Node as Node
from nightingale_hub.fuse_audit.source import open_sources

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK and O_NOCTTY matter only if a name turns into a fifo or a terminal between its stat
# and its open.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OPEN_DIRECTORIES = 1024
_ROOT_INO = (0xFFFF << 48) | 1
_STATUS_INO = (0xFFFF << 48) | 2
STATUS = b"AUDIT-STATUS.txt"
# ZFS keeps the other snapshots of a filesystem in .zfs: what was taken out of a dataset is there.
_HIDDEN = b".zfs"
_NO_NAMES = (b"", b".", b"..", _HIDDEN)


class Attributes(NamedTuple):
    """What stat says of one node; times are ns. `ino` is unique over all datasets of a mount."""

    ino: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int
    blksize: int


class Entry(NamedTuple):
    """One name in a directory; `kind` is the file type bits of its mode."""

    name: bytes
    ino: int
    kind: int


class Tree:
    """The served tree over the directories of *datasets*, which stay open for its life."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        at_ns: int,
        describe: Callable[[], bytes],
        sources: Mapping[str, Descriptor] | None = None,
    ) -> None:
        """Serve each of *datasets*, from its directory in *sources* when that is open already.

        The root's times are *at_ns*; *describe* gives the text of the status. Raises
        `MountRefused` for a directory that is not there.
        """
        self.root = Node(None, b"", None)
        self._describe = describe
        self._at_ns = at_ns
        self._datasets = {os.fsencode(dataset.name): dataset for dataset in datasets}
        self._tops = dict(open_sources(datasets) if sources is None else sources)
        self._lock = threading.Lock()
        self._directories: OrderedDict[tuple[str, bytes], Descriptor] = OrderedDict()
        self._devices: dict[int, int] = {}
        self._folders = {
            (dataset.name, path): folder
            for dataset in datasets
            for path, folder in group_extras(dataset.extras).items()
        }

    def get_child(self, parent: Node, name: bytes) -> Node:
        """Return the node called *name* in *parent*, whether or not it exists there.

        Raises ENOENT for a name that no directory can hold, or for an unknown dataset.
        """
        if parent is self.root:
            if name == STATUS:
                return Node(parent, name, None)
            if name not in self._datasets:
                raise OSError(errno.ENOENT, "no such dataset")
            return Node(parent, name, self._datasets[name])
        if parent.dataset is None or name in _NO_NAMES or b"/" in name:
            raise OSError(errno.ENOENT, "not a name")
        return Node(parent, name, parent.dataset)

    def get_node(self, path: bytes) -> Node:
        """Return the node at *path*, absolute in the mount, whether or not it exists."""
        node = self.root
        for name in path.split(b"/"):
            if name:
                node = self.get_child(node, name)
        return node

    def stat(self, node: Node) -> Attributes:
        """Return the attributes of *node*; raises ENOENT and its like."""
        if node is self.root:
            count, at_ns = 2 + len(self._datasets), self._at_ns
            mode = stat.S_IFDIR | 0o555
            return Attributes(_ROOT_INO, 0, 0, at_ns, at_ns, at_ns, mode, count, 0, 0, 4096)
        if node.dataset is None:
            size, at_ns = len(self._describe()), self._at_ns
            mode = stat.S_IFREG | 0o444
            return Attributes(_STATUS_INO, size, 1, at_ns, at_ns, at_ns, mode, 1, 0, 0, 4096)
        if node.parent is self.root:
            directory = self._open_directory(node)
            return self.describe(self._count(node, os.fstat(directory.fd)))
        directory = self._open_directory(self._get_parent(node))
        return self.describe(self._count(node, self._stat(node, directory)))

    def stat_open(self, node: Node, file: Descriptor) -> Attributes:
        """Return the attributes of *node*, which is open as *file*."""
        found = os.fstat(file.fd)
        folder = self._find_folder(node.parent) if node.parent else None
        is_extra = folder is not None and node.name in folder.by_name
        # What lies in memory has no name anywhere.
        if node.dataset is None or (is_extra and found.st_nlink == 0):
            return self.stat(node)
        return self.describe(found)

    def describe(self, found: os.stat_result) -> Attributes:
        """Return *found* as it is served."""
        mode, size, blocks = found.st_mode, found.st_size, found.st_blocks
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            mode, size, blocks = stat.S_IFREG, 0, 0
        return Attributes(
            self._get_ino(found.st_dev, found.st_ino),
            size,
            blocks,
            found.st_atime_ns,
            found.st_mtime_ns,
            found.st_ctime_ns,
            mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            found.st_blksize,
        )

    def list_entries(self, node: Node) -> list[Entry]:
        """Return every entry of the directory *node*, without `.` and `..`."""
        if node is self.root:
            tops = [Node(node, name, dataset) for name, dataset in self._datasets.items()]
            entries = [Entry(top.name, self.stat(top).ino, stat.S_IFDIR) for top in tops]
            return [*entries, Entry(STATUS, _STATUS_INO, stat.S_IFREG)]
        directory = self._open_directory(node)
        # A second open: the cached one is O_PATH, and each listing needs its own position.
        readable = Descriptor(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory.fd))
        device = os.fstat(directory.fd).st_dev
        with os.scandir(readable.fd) as names:
            entries = [
                Entry(os.fsencode(e.name), self._get_ino(device, e.inode()), _get_kind(e))
                for e in names
                if os.fsencode(e.name) != _HIDDEN
            ]
        folder = self._find_folder(node)
        if folder is not None:
            folder.fit(directory.fd)
            known = {entry.name for entry in entries}
            for name in sorted(folder.by_name.keys() - known):
                ino = self._get_ino(device, folder.get_ino(name))
                entries.insert(folder.place(name, len(known)), Entry(name, ino, stat.S_IFREG))
        return entries

    def read_link(self, node: Node) -> bytes:
        """Return the text of the symbolic link *node*."""
        directory = self._open_directory(self._get_parent(node))
        return os.readlink(node.name, dir_fd=directory.fd)

    def open(self, node: Node) -> tuple[Descriptor, Attributes]:
        """Open the regular file *node* for reading; EACCES for what is no file."""
        if node.dataset is None and node is not self.root:
            return self._open_status(node)
        if node.parent is None or node.parent is self.root:
            raise OSError(errno.EISDIR, "is a directory")
        directory = self._open_directory(node.parent)
        mode = self._stat(node, directory).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EACCES, "not a regular file")
        folder = self._find_folder(node.parent)
        if folder is not None and node.name in folder.by_name and not _exists(node, directory):
            return folder.open(node.name, directory.fd), self.stat(node)
        file = Descriptor(os.open(node.name, _FILE_FLAGS, dir_fd=directory.fd))
        found = os.fstat(file.fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EACCES, "not a regular file")
        return file, self.describe(found)

    def _find_folder(self, node: Node) -> Folder | None:
        """Return the extra files of the directory *node*, or None where there are none."""
        return self._folders.get((node.dataset.name, node.path)) if node.dataset else None

    def _stat(self, node: Node, directory: Descriptor) -> os.stat_result:
        """Return what stat says of *node* in *directory*, which may be an extra file."""
        try:
            return os.stat(node.name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            folder = self._find_folder(self._get_parent(node))
            if folder is None or node.name not in folder.by_name:
                raise
            return folder.stat(node.name, directory.fd)

    def _count(self, node: Node, found: os.stat_result) -> os.stat_result:
        """Return *found*, in which a directory may count its extra files."""
        folder = self._find_folder(node)
        if folder is None or not stat.S_ISDIR(found.st_mode):
            return found
        return folder.count_into(found, self._open_directory(node).fd)

    def _open_status(self, node: Node) -> tuple[Descriptor, Attributes]:
        """Return what the mount says of itself now: whoever has it open reads one text."""
        file = Descriptor(os.memfd_create("status", os.MFD_CLOEXEC))
        os.write(file.fd, self._describe())
        return file, self.stat(node)

    def get_space(self, node: Node) -> os.statvfs_result:
        """Return the space of the filesystem of *node*'s dataset; the root is its first one's."""
        dataset = node.dataset or next(iter(self._datasets.values()), None)
        return os.statvfs(self._tops[dataset.name].fd if dataset else "/")

    def _get_parent(self, node: Node) -> Node:
        if node.parent is None or node.parent is self.root:
            raise OSError(errno.EINVAL, "a dataset's directory is no entry of another")
        return node.parent

    def _get_ino(self, device: int, ino: int) -> int:
        # Two datasets may use one inode number; archivers would take the files for hard links.
        return ino ^ self._devices.setdefault(device, len(self._devices)) << 48

    def _open_directory(self, node: Node) -> Descriptor:
        """Return *node*'s directory, from the cache or opened from its parent's."""
        assert node.dataset is not None
        # Up to one that is open, then down again: a tree may be deeper than a stack.
        closed: list[Node] = []
        at = node
        while (directory := self._find_directory(at)) is None:
            closed.append(at)
            assert at.parent is not None
            at = at.parent
        for below in reversed(closed):
            found = os.open(below.name, _DIRECTORY_FLAGS, dir_fd=directory.fd)
            directory = Descriptor(found)
            with self._lock:
                self._directories[node.dataset.name, below.path] = directory
                if len(self._directories) > _OPEN_DIRECTORIES:
                    self._directories.popitem(last=False)
        return directory

    def _find_directory(self, node: Node) -> Descriptor | None:
        """Return *node*'s directory if it is open."""
        assert node.dataset is not None
        if not node.path:
            return self._tops[node.dataset.name]
        key = (node.dataset.name, node.path)
        with self._lock:
            directory = self._directories.get(key)
            if directory is not None:
                self._directories.move_to_end(key)
        return directory


def _exists(node: Node, directory: Descriptor) -> bool:
    try:
        os.stat(node.name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _get_kind(entry: "os.DirEntry[str]") -> int:
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFLNK if entry.is_symlink() else stat.S_IFREG
