"""What an instance is used for, as its agent sees it: kernels, programs, GPU, reads, requests.

What cannot be found out is None, and named in `unknown`: whoever decides takes that for in use.
Nothing here counts as use itself.
"""

import json
import logging
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.bootstrap import Launch
from nightingale_hub.instance.hub import post

INTERVAL_S = 30.0
ANSWER_WITHIN_S = 5.0
SMI_WITHIN_S = 10.0
FAULT_LIMIT = 20

log = logging.getLogger(__name__)


class Usage:
    """Looks and tells every half minute, from a thread of its own."""

    def __init__(
        self, launch: Launch, port: int, directory: Path, count_programs: Callable[[], int]
    ) -> None:
        """Watch the server on *port*; *count_programs* counts what runs beside its kernels."""
        self._launch = launch
        prefix = launch.environment.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        self._server_url = f"http://127.0.0.1:{port}{prefix}api/"
        self._spool = directory / "spool"
        self._count_programs = count_programs
        self._faults: list[str] = []
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._answered_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """For how long the server has answered nothing."""
        return time.monotonic() - self._answered_s

    def note_started(self) -> None:
        """Count its silence from now on: it was started anew."""
        self._answered_s = time.monotonic()

    def start(self) -> None:
        """Look and tell from now on, until this process ends or `end` is called."""
        threading.Thread(target=self._run, name="usage", daemon=True).start()

    def end(self) -> None:
        """Tell nothing any more."""
        self._ends.set()

    def report(self, fault: str) -> None:
        """Put *fault* into the reports until one has arrived, and send one soon."""
        with self._lock:
            self._faults = [*self._faults, fault[:300]][-FAULT_LIMIT:]

    def look(self) -> dict[str, Any]:
        """Return what the instance is used for now."""
        unknown: list[str] = []
        busy_kernels = asked_us = None
        try:
            kernels = self._get("kernels")
            busy_kernels = sum(each.get("execution_state") == "busy" for each in kernels)
            asked_us = _parse_time(self._get("status")["last_activity"])
            self._answered_s = time.monotonic()
        except urllib.error.HTTPError as error:
            self._answered_s = time.monotonic()
            unknown.append(f"kernels: the server answered {error.code}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unknown.append(f"kernels: {error}"[:300])
        try:
            programs: int | None = self._count_programs()
        except OSError as error:
            programs = None
            unknown.append(f"programs: {error}"[:300])
        return {
            "busy_kernels": busy_kernels,
            "programs": programs,
            "gpu_percent": _find_gpu_percent(unknown),
            "read_us": _find_last_change_us(self._spool),
            "asked_us": asked_us,
            "unknown": unknown,
        }

    def tell(self) -> bool:
        """Send a report; return whether it arrived."""
        with self._lock:
            faults = list(self._faults)
        body = {**self.look(), "faults": faults}
        url = f"{self._launch.supervisor_url}activity"
        try:
            status, _ = post(url, body, self._launch.credential, ANSWER_WITHIN_S)
        except Unavailable as error:
            log.info("usage: %s", error)
            return False
        if status != 200:
            log.info("usage: the hub answered %s", status)
            return False
        with self._lock:
            self._faults = [each for each in self._faults if each not in faults]
        return True

    def _run(self) -> None:
        due_s = 0.0
        while not self._ends.wait(1):
            if time.monotonic() >= due_s or self._faults:
                is_told = self.tell()
                due_s = time.monotonic() + (INTERVAL_S if is_told else INTERVAL_S / 3)
                if not is_told:
                    self._ends.wait(INTERVAL_S / 10)

    def _get(self, name: str) -> Any:
        # Not tracked, or looking would be the use that is looked for.
        request = urllib.request.Request(  # noqa: S310 - the scheme is http
            f"{self._server_url}{name}?no_track_activity=1",
            headers={
                "Authorization": f"token {self._launch.environment.get('JUPYTERHUB_API_TOKEN', '')}"
            },
        )
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310
            return json.load(answer)


def _find_gpu_percent(unknown: list[str]) -> float | None:
    """Return how busy the busiest GPU is; None where there is none, or nobody can tell."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=SMI_WITHIN_S
        ).stdout
        return max(float(line) for line in said.split())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        unknown.append(f"gpu: {error}"[:300])
        return None


def _find_last_change_us(spool: Path) -> int | None:
    """Return when a record of a read was last written; None where no data is served."""
    last_ns = 0
    if not spool.is_dir():
        return None
    for path in spool.rglob("*"):
        with suppress(FileNotFoundError):  # it was shipped meanwhile
            if path.is_file():
                last_ns = max(last_ns, path.stat().st_mtime_ns)
    return last_ns // 1000 or None


def _parse_time(text: str) -> int:
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1_000_000)
