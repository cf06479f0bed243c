"""The agent's beats: proof, every two seconds, that this boot of the instance still runs.

They come from a thread of their own, and one that fails is simply followed by the next: the
instance waits for the hub in nothing.
"""

import logging
import threading
import time
from typing import Any

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.hub import post

INTERVAL_S = 2.0
ANSWER_WITHIN_S = 5.0
FAULT_LIMIT = 20
FAILURE_LIMIT = 50

log = logging.getLogger(__name__)


class Beats:
    """The beats of one boot."""

    def __init__(self, url: str, credential: str, instance_id: str, boot_id: str) -> None:
        """Beat to *url*; nothing is sent before `start`."""
        self._url = url
        self._credential = credential
        self._ids = {"instance_id": instance_id, "boot_id": boot_id}
        self._began_s = time.monotonic()
        self._faults: list[str] = []
        self._failures: list[list[Any]] = []  # [cause, since, until or None], µs of uptime
        self._lock = threading.Lock()
        self._ends = threading.Event()

    def start(self) -> None:
        """Beat from now on, until this process ends or `end` is called."""
        threading.Thread(target=self._run, name="beats", daemon=True).start()

    def end(self) -> None:
        """Send no further beat."""
        self._ends.set()

    def report(self, fault: str) -> None:
        """Put *fault* into the beats until one has arrived; only the newest 20 are held."""
        log.warning("fault: %s", fault)
        with self._lock:
            self._faults = [*self._faults, fault][-FAULT_LIMIT:]

    def note(self, cause: str, fails: bool) -> None:
        """Note whether the platform, by what only this agent can know, fails its researcher.

        Each beat tells every failure that goes on, and each that ended until a beat has arrived.
        """
        at_us = self._uptime_us()
        with self._lock:
            open_ = [each for each in self._failures if each[0] == cause and each[2] is None]
            if fails and not open_ and len(self._failures) < FAILURE_LIMIT:
                self._failures.append([cause, at_us, None])
            for each in open_ if not fails else ():
                each[2] = at_us

    def flush(self) -> None:
        """Send one beat now; waits up to 5 s."""
        self._beat()

    def _run(self) -> None:
        while not self._ends.is_set():
            self._beat()
            self._ends.wait(INTERVAL_S)

    def _beat(self) -> None:
        with self._lock:
            faults = list(self._faults)
            failures = [list(each) for each in self._failures]
        beat = {**self._ids, "uptime_us": self._uptime_us(), "faults": faults}
        beat["failures"] = failures
        try:
            status, _ = post(self._url, beat, self._credential, ANSWER_WITHIN_S)
        except Unavailable as error:
            log.info("beat: %s", error)
            return
        if status != 200:
            log.info("beat: the hub answered %s", status)
            return
        with self._lock:
            self._faults = [fault for fault in self._faults if fault not in faults]
            told = [each for each in failures if each[2] is not None]
            self._failures = [each for each in self._failures if each not in told]

    def _uptime_us(self) -> int:
        return int((time.monotonic() - self._began_s) * 1_000_000)
