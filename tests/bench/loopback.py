"""A directory through fusepy, as its own example does: `loopback SOURCE DIRECT MOUNTPOINT`."""

# mypy: ignore-errors
# Fusepy has no types.

import os
import sys

from fuse import FUSE, Operations

from tests.bench.peers import VALID_S


class Loopback(Operations):
    """Serves one directory, read-only."""

    def __init__(self, source: str) -> None:
        self._source = source

    def _find(self, path: str) -> str:
        return self._source + path

    def getattr(self, path, fh=None):
        found = os.lstat(self._find(path))
        names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size")
        return {name: getattr(found, name) for name in (*names, "st_uid")}

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self._find(path))]

    def open(self, path, flags):
        return os.open(self._find(path), os.O_RDONLY)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def release(self, path, fh):
        os.close(fh)


if __name__ == "__main__":
    source, is_direct, point = sys.argv[1:]
    FUSE(
        Loopback(source),
        point,
        foreground=True,
        ro=True,
        max_read=1 << 20,
        attr_timeout=VALID_S,
        entry_timeout=VALID_S,
        **({"direct_io": True} if int(is_direct) else {}),
    )
