"""A dataset's manifest: each file with its size, in the order of names, as it was measured.

Loaders go by it. Honeyfiles are not in it, so a loader that does never touches one. Paths are
written as the audit log writes them.
"""

import hashlib
import json
import os
import random
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import zstandard
from sqlalchemy import Connection, Row, delete, insert, select

from nightingale_hub.tables.decoys import manifest
from nightingale_hub.text import format_name

FOLDERS = 48
SIBLINGS = 64
LEAST_SIBLINGS = 3


@dataclass(frozen=True)
class Measured:
    """What was found in a dataset's directory; *siblings* is by folder name → [size, mtime_ns]."""

    files: int
    size: int
    lines: bytes
    siblings: Mapping[str, Mapping[str, tuple[int, int]]]


def measure(path: str, seed: str) -> Measured:
    """Return what the directory at *path* holds; *seed* chooses the folders that are remembered.

    Links are not followed, and what is no regular file is left out. Raises `OSError`.
    """
    rng = random.Random(seed)  # noqa: S311 - which folders is no secret: what is put there is
    sizes: list[tuple[str, int]] = []
    folders: dict[str, dict[str, tuple[int, int]]] = {}
    for count, (folder, found) in enumerate(_walk(path), 1):
        sizes += [(os.path.join(folder, name), size) for name, (size, _) in found.items()]
        if len(found) < LEAST_SIBLINGS or not folder.isprintable() or "\\" in folder:
            continue
        # Each folder has the same chance to be kept, however many there are.
        if len(folders) == FOLDERS:
            if rng.randrange(count) >= FOLDERS:
                continue
            del folders[rng.choice(sorted(folders))]
        folders[folder] = dict(sorted(found.items())[:SIBLINGS])
    sizes.sort()
    lines = "".join(f"{size}\t{_inert(name)}\n" for name, size in sizes)
    total = sum(size for _, size in sizes)
    return Measured(len(sizes), total, lines.encode(), folders)


def save_manifest(conn: Connection, dataset: str, measured: Measured, at_us: int) -> None:
    """Replace the manifest of *dataset*; the caller commits."""
    conn.execute(delete(manifest).where(manifest.c.dataset == dataset))
    conn.execute(
        insert(manifest).values(
            dataset=dataset,
            files=measured.files,
            size=measured.size,
            content=zstandard.compress(measured.lines),
            sha256=hashlib.sha256(measured.lines).hexdigest(),
            siblings=json.dumps(measured.siblings),
            measured_us=at_us,
        )
    )


def find_manifest(conn: Connection, dataset: str) -> Row[Any] | None:
    """Return the manifest of *dataset*, or None while it is not measured."""
    return conn.execute(select(manifest).where(manifest.c.dataset == dataset)).one_or_none()


def unpack_lines(content: bytes) -> bytes:
    """Return the lines of a manifest's *content*."""
    return zstandard.ZstdDecompressor().decompress(content)


def is_listed(lines: bytes, path: str) -> bool:
    """Tell whether a manifest's *lines* have a file at *path*."""
    return f"\t{path}\n".encode() in lines


def parse_sizes(lines: bytes) -> dict[str, int]:
    """Return the size of each file in *lines*, by its path as the log writes it."""
    pairs = (line.partition("\t") for line in lines.decode().split("\n")[:-1])
    return {name: int(size) for size, _, name in pairs}


def _walk(path: str) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Yield each folder, relative to *path*, with the size and the time of each file in it."""
    waiting = [b""]
    top = os.fsencode(path)
    while waiting:
        folder = waiting.pop()
        found: dict[str, tuple[int, int]] = {}
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(os.path.join(folder, entry.name))
                    continue
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found[format_name(entry.name)] = (status.st_size, status.st_mtime_ns)
        yield format_name(folder), found


def _inert(name: str) -> str:
    # A newline in a name would begin a line of its own; the log writes it as it is.
    return name.replace("\r", "\\x0d").replace("\n", "\\x0a")
