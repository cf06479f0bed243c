"""What an agent is told by signal: stop, a new size, a child that ended."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Signals:
    """The signals of this process, and a wait that ends as soon as one comes."""

    def __init__(self) -> None:
        """Take over SIGTERM, SIGHUP and SIGCHLD; only in the main thread."""
        self.is_stopping = False
        self.has_new_size = False
        self._exits_at_once = False
        self._told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._note)

    def wait(self, timeout_s: float) -> None:
        """Wait for the next signal, at most *timeout_s*."""
        select.select([self._told], [], [], timeout_s)
        with suppress(BlockingIOError):
            os.read(self._told, 512)

    @contextmanager
    def exiting_at_once(self) -> Iterator[None]:
        """Let SIGTERM raise `SystemExit` within, where there is nothing yet to end in order."""
        self._exits_at_once = True
        try:
            yield
        finally:
            self._exits_at_once = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.has_new_size = True
        elif number == signal.SIGTERM:
            self.is_stopping = True
            if self._exits_at_once:
                raise SystemExit(0)
