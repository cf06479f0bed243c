"""A witness: a place out of the hub's admins' reach that keeps each checkpoint, written once.

A folder (on another host's mount), or any object store that fsspec knows, such as a bucket with
an object lock. Names sort as time goes: `2026/11/24/<at_us>-<size>.note`. Nothing is replaced.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec

from nightingale_hub.clock import to_datetime
from nightingale_hub.durable import create_text


class Witness:
    """One such place; every failure to reach it is an `OSError`."""

    def __init__(self, place: str) -> None:
        """Keep checkpoints in *place*, a folder or a URL; touches nothing until the first."""
        self.place = place

    def put(self, at_us: int, size: int, note: str) -> None:
        """Keep *note*, durably; one that is there already stays as it is."""
        name = f"{to_datetime(at_us):%Y/%m/%d}/{at_us:017d}-{size}.note"
        if "://" not in self.place:
            path = Path(self.place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            create_text(path, note, mode=0o644)
            return
        files, root = self._open()
        files.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
        with suppress(FileExistsError):
            files.pipe_file(f"{root}/{name}", note.encode(), mode="create")

    def find_newest(self) -> str | None:
        """Return the newest note, or None when there is none yet."""
        files, root = self._open()
        if not files.exists(root):
            return None
        newest = root
        for _ in range(4):  # year, month, day, note
            names = [str(name).rstrip("/") for name in files.ls(newest, detail=False)]
            names = [name for name in names if not os.path.basename(name).startswith(".")]
            if not names:
                return None
            newest = max(names)
        return str(files.cat_file(newest).decode())

    def _open(self) -> tuple[Any, str]:
        try:
            files, root = fsspec.core.url_to_fs(self.place, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise OSError(f"{self.place} cannot be used: {error}") from error
        return files, root.rstrip("/")
