"""The lock of an instance's directory: whoever changes what runs there holds it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nightingale_hub.errors import Unavailable

WITHIN_S = 25.0


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the instance's lock; a start that goes on without its caller holds it too.

    Raises `Unavailable` when another holds it for 25 s.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + WITHIN_S
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise Unavailable(f"another command holds {directory}; retry")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
