"""JSON lines in a file of this machine, on disk before they count as delivered.

The file is opened by its name for each delivery, so it may be renamed away at any time. A crash
between the write and the record of it leaves lines twice, never none; `event.id` tells.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from nightingale_hub.durable import sync_directory
from nightingale_hub.errors import Unavailable
from nightingale_hub.services.audit.export.record import Record
from nightingale_hub.services.audit.export.target import Refusal, to_json


class Lines:
    """One file."""

    def __init__(self, path: str) -> None:
        """Append to *path*."""
        self._path = Path(path)

    async def send(self, records: Sequence[Record]) -> list[Refusal]:
        """Deliver *records*."""
        data = "".join(f"{to_json(each.body)}\n" for each in records).encode()
        try:
            await asyncio.to_thread(self._append, data)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
        return []

    async def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _append(self, data: bytes) -> None:
        is_new = not self._path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o640)
        try:
            before = os.fstat(descriptor).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)  # half a line would spoil the next one
                raise
        finally:
            os.close(descriptor)
        if is_new:
            sync_directory(self._path.parent)
