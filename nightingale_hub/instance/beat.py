"""The agent's beats: proof, every two seconds, that this boot of the instance still runs.

They come from a thread of their own, and one that fails is simply followed by the next: the
instance waits for the hub in nothing.
"""

import logging
import threading
import time

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.hub import post

INTERVAL_S = 2.0
ANSWER_WITHIN_S = 5.0
FAULT_LIMIT = 20

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
        uptime_us = int((time.monotonic() - self._began_s) * 1_000_000)
        beat = {**self._ids, "uptime_us": uptime_us, "faults": faults}
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
