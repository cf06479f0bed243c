"""The demo's hub process: started, waited for, and ended with every instance that it made."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from sqlalchemy import Connection

from nightingale_hub import instances
from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.demo.state import MARK, DemoState
from nightingale_hub.errors import Unavailable
from nightingale_hub.processes import end_all, list_marked
from nightingale_hub.service import die_with_parent
from nightingale_hub.settings import SERVICES

CONFIG = Path(__file__).parent / "jupyterhub_config.py"
START_FOR_S = 60.0
STOP_FOR_S = 90.0
REST_ENDS_WITHIN_S = 5.0

Say = Callable[[str], None]


class DemoHub:
    """A running hub of the demo; `stop` ends it and its instances."""

    def __init__(self, directory: Path, state: DemoState) -> None:
        """Start the hub in *directory*; its output goes to hub.log there."""
        self.directory = directory
        self.state = state
        self.log_path = directory / "hub.log"
        environment = {**os.environ, MARK: str(directory)}
        with open(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,  # Ctrl-C is ours: instances go first
                preexec_fn=die_with_parent,
            )

    def wait_until_ready(self) -> None:
        """Return once hub and services answer; raises `Unavailable` with the log's place."""
        deadline = time.monotonic() + START_FOR_S
        pages = ["/hub/health", *(f"/services/{name}/health" for name in SERVICES)]
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                answers = [
                    httpx.get(self.state.url + page, timeout=5, trust_env=False) for page in pages
                ]
            except httpx.TransportError:
                answers = []
            if answers and all(answer.status_code == 200 for answer in answers):
                return
            time.sleep(0.2)
        raise Unavailable(f"the hub did not start; the reason is at the end of {self.log_path}")

    def is_running(self) -> bool:
        """Tell whether the hub's process lives."""
        return self._process.poll() is None

    def stop(self, say: Say) -> None:
        """Stop every instance, wait until each is gone, then end the hub.

        Raises `Unavailable` naming the instances that are still there after 90 s.
        """
        database = Database(self.state.db_url)
        try:
            left = self._stop_instances(database, say)
        finally:
            database.dispose()
            self._end_process()
        if left:
            raise Unavailable(
                f"still there: {', '.join(left)}; start the demo again to go on stopping them"
            )

    def _stop_instances(self, database: Database, say: Say) -> list[str]:
        def accept(conn: Connection) -> list[str]:
            rows = instances.list_unsettled(conn)
            return [
                row.id
                for row in rows
                if instances.want_stopped(conn, row.id, now_us(), "the demo ends")
            ]

        deadline = time.monotonic() + STOP_FOR_S
        while True:
            # Each time: one may have been asked for since, by who was at the spawn page.
            for instance_id in database.transact(accept):
                say(f"stopping instance {instance_id}")
            with database.read() as conn:
                left = [row.id for row in instances.list_unsettled(conn)]
            if not left or time.monotonic() > deadline or not self.is_running():
                return left
            time.sleep(0.2)

    def _end_process(self) -> None:
        self._process.send_signal(signal.SIGTERM)  # nothing, where it has ended
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # A hub that ends while it starts, or is killed, leaves its proxy.
        end_all(list_marked(MARK, str(self.directory)), REST_ENDS_WITHIN_S)
