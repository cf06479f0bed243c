"""A ZFS pool on a file, for datasets that not even root can write to.

With the kernel's ZFS where it works, else with a zfs-fuse of its own (`zfs_daemon`). A pool is
made anew each time and thrown away: what it holds is a copy.
"""

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from nightingale_hub.demo.zfs_daemon import (
    find_daemon,
    list_mounts,
    run,
    start_daemon,
    stop_daemon,
)
from nightingale_hub.errors import MountRefused, Unavailable
from nightingale_hub.processes import Identity

RELEASE_WITHIN_S = 10.0
_SIZE_BYTES = 64 << 20
_EDITION = "nightingale:edition"


@dataclass(frozen=True)
class Pool:
    """A pool that is there; *daemon* is None with the kernel's ZFS."""

    base: Path
    daemon: Identity | None

    @property
    def kind(self) -> str:
        """`zfs` or `zfs-fuse`."""
        return "zfs" if self.daemon is None else "zfs-fuse"

    def path_of(self, name: str) -> Path:
        """Return where the dataset *name* is mounted."""
        return _share(self.base) / name

    def find_edition(self, name: str) -> str | None:
        """Return the edition of the sealed dataset *name*, or None when it is not there whole."""
        if str(self.path_of(name)) not in list_mounts(self.path_of(name)):
            return None
        try:
            told = self._zfs("get", "-H", "-o", "value", _EDITION, self._full(name)).strip()
        except MountRefused:
            return None
        return None if told == "-" else told

    def add(self, name: str, source: Path, edition: str) -> Path:
        """Make the dataset *name* with a copy of *source* and seal it; return where it is.

        Sealed last: a dataset without an edition was interrupted.
        """
        path = self.path_of(name)
        self._zfs("create", "-o", f"mountpoint={path}", self._full(name))
        path.chmod(0o755)
        shutil.copytree(source, path, dirs_exist_ok=True)
        self._zfs("set", "readonly=on", self._full(name))
        if self.daemon is not None:
            # zfs-fuse's own readonly lets root append to a file that is there: the kernel does not.
            # -i, as mount's helper for this type knows no remount.
            run(["mount", "-i", "-o", "remount,ro", str(path)])
        self._zfs("set", f"{_EDITION}={edition}", self._full(name))
        return path

    def _full(self, name: str) -> str:
        return f"{_pool_name(self.base)}/{name}"

    def _zfs(self, *arguments: str) -> str:
        return run(["zfs", *arguments], self.daemon)


def find_pool(base: Path) -> Pool | None:
    """Return the pool of *base* that an earlier process made and that still serves."""
    daemon = find_daemon(_share(base))
    try:
        run(["zpool", "list", _pool_name(base)], daemon)
    except (MountRefused, FileNotFoundError):
        return None
    return Pool(base, daemon)


def create_pool(base: Path) -> Pool:
    """Make an empty pool in the directory *base*, away with what an interrupted one left.

    Raises `MountRefused` with the reason where ZFS is not to be had.
    """
    destroy_pool(base)
    try:
        daemon = None if _kernel_has_zfs() else start_daemon(_share(base))
        _share(base).mkdir(parents=True, exist_ok=True)
        _allocate(_file(base))
        remembered = ["-o", "cachefile=none"] if daemon is None else []
        options = [*remembered, "-m", "none", "-O", "atime=off"]
        run(["zpool", "create", *options, _pool_name(base), str(_file(base))], daemon)
    except BaseException:
        destroy_pool(base)
        raise
    return Pool(base, daemon)


def destroy_pool(base: Path) -> None:
    """Unmount and destroy the pool of *base* with all in it; does nothing when there is none.

    Raises `Unavailable` when something still reads it after 10 s; then the pool stays.
    """
    pool = find_pool(base)
    if pool is not None:
        deadline = time.monotonic() + RELEASE_WITHIN_S
        for mounted in reversed(list_mounts(_share(base))):
            if mounted != str(_share(base)):
                _retry(["zfs", "unmount", mounted], pool.daemon, deadline)
        # Never with -f, which hung zfs-fuse together with everything that touched its mounts.
        _retry(["zpool", "destroy", _pool_name(base)], pool.daemon, deadline)
    stop_daemon(_share(base))
    _file(base).unlink(missing_ok=True)


def _allocate(file: Path) -> None:
    # Given whole at once: a pool on a file that the disk cannot back hangs zfs-fuse for good.
    with file.open("wb") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, _SIZE_BYTES)
        except OSError as error:
            raise MountRefused(
                f"the disk has no {_SIZE_BYTES >> 20} MiB left for a ZFS pool; free some"
            ) from error


def _retry(command: list[str], daemon: Identity | None, deadline: float) -> None:
    while True:
        try:
            run(command, daemon)
            return
        except MountRefused as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"{error}; end what still reads it and try again") from error
            time.sleep(0.1)


def _kernel_has_zfs() -> bool:
    try:
        run(["zpool", "list"])
    except (MountRefused, FileNotFoundError):
        return False
    # A zfs-fuse of the system answers too, but it is not ours to fill.
    return Path("/sys/module/zfs").exists()


def _share(base: Path) -> Path:
    return base / "zfs"


def _file(base: Path) -> Path:
    return base / "pool.img"


def _pool_name(base: Path) -> str:
    return f"nightingale-{hashlib.sha256(bytes(base)).hexdigest()[:12]}"
