"""The segment files: where acknowledged batches are, in the order in which they came.

Files are `<epoch>-<number>.seg` under the state directory, 0600 in a directory 0700, each
written by one process and only ever appended to; names sort as they were written. A file in
which a write failed is never written again, so a torn frame is always the last of its file.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightingale_hub.durable import sync_directory
from nightingale_hub.errors import NightingaleError, Unavailable
from nightingale_hub.services.audit import frame
from nightingale_hub.services.audit.batch import hash_lines, unpack
from nightingale_hub.services.audit.frame import DamagedFrame, Frame

log = logging.getLogger("nightingale")
ROTATE_BYTES = 256 << 20


@dataclass(frozen=True)
class Place:
    """Where a frame is."""

    file: str
    position: int
    length: int


class Segments:
    """The directory of segment files, of which one is this process's to append to."""

    def __init__(self, directory: Path, epoch: int, rotate_bytes: int = ROTATE_BYTES) -> None:
        """Use *directory* as the owner of *epoch*; touches nothing until the first append."""
        self.directory = directory
        self._epoch = epoch
        self._rotate_bytes = rotate_bytes
        self._number = 0
        self._descriptor: int | None = None
        self._name = ""
        self._size = 0
        self._lock = threading.Lock()

    def append(self, frames: Sequence[bytes]) -> list[Place]:
        """Write *frames* and wait until they are on disk; returns where each is.

        Raises `Unavailable` when the disk is full or fails; then none of them counts.
        """
        with self._lock:
            try:
                if self._descriptor is None or self._size >= self._rotate_bytes:
                    self._open_next()
                assert self._descriptor is not None
                _write(self._descriptor, b"".join(frames))
                # After a failed sync the kernel may forget what it did not write, so the whole
                # file is given up.
                # ref: https://wiki.postgresql.org/wiki/Fsync_Errors
                os.fdatasync(self._descriptor)
            except OSError as error:
                log.error("audit segment %s: %s", self._name, error)
                self._abandon()
                raise Unavailable(
                    "the audit log cannot be written now; send the batch again"
                ) from error
            places = []
            for each in frames:
                places.append(Place(self._name, self._size, len(each)))
                self._size += len(each)
            return places

    def load_lines(self, place: Place, sha256: str) -> bytes:
        """Return the lines of the frame at *place*; raises `DamagedFrame` unless *sha256* fits."""
        try:
            with open(self.directory / place.file, "rb") as file:
                file.seek(place.position)
                lines = unpack(frame.decode(file.read(place.length)).payload)
        except (OSError, NightingaleError) as error:
            raise DamagedFrame(f"{place.file} cannot be read: {error}") from error
        if hash_lines(lines) != sha256:
            raise DamagedFrame(f"{place.file} holds other lines than were acknowledged")
        return lines

    def close(self) -> None:
        """Close this process's file, once a running append has ended."""
        with self._lock:
            self._close()

    def _open_next(self) -> None:
        self._close()
        _ensure_directory(self.directory)
        newest = self._name or f"{self._epoch:010d}-"
        ahead = [name for name in list_files(self.directory) if name > newest]
        if ahead:
            log.critical(
                "audit segment %s is newer than this service's epoch %d: the database is older "
                "than the log, or a newer service runs",
                ahead[-1],
                self._epoch,
            )
            raise Unavailable("the audit log is ahead of the database; ask an administrator")
        self._number += 1
        self._name = f"{self._epoch:010d}-{self._number:06d}.seg"
        self._size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.directory / self._name, flags, 0o600)
        sync_directory(self.directory)

    def _abandon(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # then a torn frame stays, which readers tolerate
                os.ftruncate(self._descriptor, self._size)
                if self._size == 0:
                    (self.directory / self._name).unlink()
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                os.close(descriptor)


def list_files(directory: Path) -> list[str]:
    """Return the names of the segment files in *directory*, oldest first."""
    if not directory.exists():
        return []
    return sorted(path.name for path in directory.glob("*.seg"))


def scan(directory: Path, name: str) -> Iterator[tuple[Place, Frame]]:
    """Yield each whole frame of a file; a torn end is logged and left out."""
    with open(directory / name, "rb") as file:
        position = 0
        while prefix := file.read(frame.PREFIX.size):
            try:
                length = frame.measure(prefix)
                found = frame.decode(prefix + file.read(length - len(prefix)))
            except DamagedFrame as error:
                log.error("audit segment %s at %d: %s; the rest is left", name, position, error)
                return
            yield Place(name, position, length), found
            position += length


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _ensure_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    for each in (directory.parent.parent, directory.parent, directory):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)
