"""A child process that is kept: started again when it ends, within a limit.

All of an agent's children are started, looked at and reaped by its one main thread, so that the
reaping of orphans, which an agent does for everything below it, never takes a kept child's
status away.
"""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable

from nightingale_hub.processes import wait_listening

PAUSES_S = (0.2, 0.5, 1.0, 1.5)  # one that ends again and again is started ever more slowly
LASTED_S = 30.0
LISTENS_WITHIN_S = 0.5


class Kept:
    """One kept child; times are monotonic seconds."""

    def __init__(
        self,
        name: str,
        start: Callable[[], "subprocess.Popen[bytes]"],
        limit: int | None = None,
        window_s: float = 600.0,
    ) -> None:
        """Keep what *start* starts; at most *limit* new starts in any *window_s*, then none."""
        self.name = name
        self._start = start
        self._limit = limit
        self._window_s = window_s
        self._restarts: deque[float] = deque()
        self._due_s: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Its pid while it runs or waits to be reaped."""
        return None if self._process is None else self._process.pid

    @property
    def is_lost(self) -> bool:
        """Whether it ended, and is not started again."""
        return self._process is None and self._due_s is None and self._failures > 0

    def start(self) -> None:
        """Start it."""
        self._due_s = None
        self._started_s = time.monotonic()
        self._process = self._start()

    def poll(self) -> int | None:
        """Return its exit status when it is not running; negative is a signal."""
        return None if self._process is None else self._process.poll()

    def tick(self, now_s: float) -> str | None:
        """Look after it once; return the fault to report when it has just ended."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return None
            self._process = None
            self._plan_restart(now_s)
            return f"{self.name}_exited {status}"
        if self._due_s is not None and now_s >= self._due_s:
            self.start()
        return None

    def ensure_running(self, listens_within_s: float) -> None:
        """Start it now where it has ended, and wait until it can be asked to end."""
        if self._process is None or self._process.poll() is not None:
            self.start()
            assert self._process is not None
            wait_listening(self._process.pid, signal.SIGTERM, listens_within_s)

    def end(self, timeout_s: float) -> int | None:
        """Ask it to end, kill it after *timeout_s*; return its exit status, None if not running."""
        self._due_s = None
        if self._process is None:
            return None
        wait_listening(self._process.pid, signal.SIGTERM, LISTENS_WITHIN_S)
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._process = None

    def restart(self, timeout_s: float, now_s: float) -> None:
        """End it, and have it started again as one that ended by itself."""
        self.end(timeout_s)
        self._plan_restart(now_s)

    def _plan_restart(self, now_s: float) -> None:
        self._failures = 1 if now_s - self._started_s > LASTED_S else self._failures + 1
        while self._restarts and self._restarts[0] <= now_s - self._window_s:
            self._restarts.popleft()
        if self._limit is None or len(self._restarts) < self._limit:
            self._restarts.append(now_s)
            self._due_s = now_s + PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]


def reap_orphans(kept: Iterable[Kept]) -> None:
    """Reap what has fallen to this process and ended, but no kept child."""
    ours = {each.pid for each in kept}
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # Only one is shown at a time; a kept child is first reaped by its own tick.
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)
