"""Brings what the server says that it served (served.py) to the hub, from the agent.

What it says is a researcher's word: its form is checked here, and again at the hub, and when it
was said is this process's clock. An entry is told until the hub has it.
"""

import http.client
import json
import logging
import threading
import time
import urllib.request
from typing import Any

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.bootstrap import Launch
from nightingale_hub.instance.hub import post

ASK_EVERY_S = 5.0
ANSWER_WITHIN_S = 5.0
ANSWER_LIMIT = 1 << 20
FIELDS = {"number": int, "kind": str, "name": str, "requests": int, "size": int}

log = logging.getLogger(__name__)


class Downloads:
    """Asks and tells every five seconds, from a thread of its own."""

    def __init__(self, launch: Launch, port: int) -> None:
        """Ask the server on *port*."""
        prefix = launch.environment.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        self._url = f"http://127.0.0.1:{port}{prefix}nightingale/served?no_track_activity=1"
        self._token = launch.environment.get("JUPYTERHUB_API_TOKEN", "")
        self._audit_url, self._credential = launch.audit_url, launch.credential
        self._run, self._after = "", 0
        self._ends = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Ask and tell from now on, until this process ends or `end` is called."""
        threading.Thread(target=self._work, name="downloads", daemon=True).start()

    def end(self) -> None:
        """Ask and tell once more, for the server is about to end; waits at most 10 s."""
        self._ends.set()
        self._try()

    def look(self) -> int:
        """Tell the hub what was served since the last time; return how many entries.

        Raises `Unavailable` when the server or the hub does not answer as it should.
        """
        with self._lock:
            answer = self._ask()
            run, served = answer.get("run"), answer.get("served")
            if not isinstance(run, str) or not isinstance(served, list):
                raise Unavailable("the server does not say what it served")
            if run != self._run:
                self._run, self._after = run, 0
            at_us = time.time_ns() // 1000
            entries = [
                {**{name: each[name] for name in FIELDS}, "at_us": at_us}
                for each in served
                if _is_entry(each) and each["number"] > self._after
            ]
            if not entries:
                return 0
            body = {"run": run, "downloads": entries}
            status, _ = post(f"{self._audit_url}downloads", body, self._credential, ANSWER_WITHIN_S)
            if status != 200:
                raise Unavailable(f"the hub answered {status}")
            self._after = max(each["number"] for each in entries)
            return len(entries)

    def _ask(self) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is http
            f"{self._url}&after={self._after}", headers={"Authorization": f"token {self._token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310
                data = json.loads(answer.read(ANSWER_LIMIT))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unavailable(f"the server does not say what it served: {error}") from error
        return data if isinstance(data, dict) else {}

    def _work(self) -> None:
        while not self._ends.wait(ASK_EVERY_S):
            self._try()

    def _try(self) -> None:
        try:
            self.look()
        except Unavailable as error:
            log.info("downloads: %s", error)


def _is_entry(each: Any) -> bool:
    return isinstance(each, dict) and all(
        type(each.get(name)) is kind for name, kind in FIELDS.items()
    )
