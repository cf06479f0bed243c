"""The supervisor's end of the keeper: finds it, starts it, and asks it for what a run needs."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from nightingale_hub.durable import find_json
from nightingale_hub.errors import Unavailable
from nightingale_hub.processes import (
    Identity,
    is_alive,
    parse_identity,
    send_signal,
    wait_gone,
)
from nightingale_hub.settings import NightingaleHub

STARTS_WITHIN_S = 30.0
ANSWERS_WITHIN_S = 15.0
OPENS_WITHIN_S = 90.0
PROGRAM = [sys.executable, "-P", "-m", "nightingale_hub.terraform.keeper"]
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


@dataclass(frozen=True)
class Keeping:
    """The keeper as it is now: who, and where it answers."""

    identity: Identity
    port: int
    token: str = field(repr=False)

    @property
    def url(self) -> str:
        """Its address on this machine."""
        return f"http://127.0.0.1:{self.port}"

    def ask_status(self) -> dict[str, Any]:
        """Return its counts; raises `Unavailable` when it does not answer."""
        return self._ask("GET", "/status", ANSWERS_WITHIN_S)

    def open_endpoint(
        self, binary: Path, environment: Mapping[str, str], run: Path
    ) -> dict[str, Any]:
        """Return how the run in *run* attaches to *binary*; raises `Unavailable` when it can't."""
        body = {"binary": str(binary), "environment": dict(environment), "run": str(run)}
        return self._ask("POST", "/endpoints", OPENS_WITHIN_S, body)

    def _ask(
        self, method: str, path: str, timeout_s: float, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            answer = httpx.request(
                method,
                f"{self.url}{path}",
                json=body,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=timeout_s,
                trust_env=False,
            )
            reply: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"terraform's keeper does not answer: {error!r}") from error
        if not answer.is_success:
            raise Unavailable(f"terraform's keeper refuses: {reply.get('error')}")
        return reply


def find_keeper(settings: NightingaleHub) -> Keeping | None:
    """Return the keeper whose process runs, or None."""
    data = find_json(settings.state_path / "terraform" / "keeper.json")
    if data is None:
        return None
    found = Keeping(parse_identity(data["process"]), int(data["port"]), str(data["token"]))
    return found if is_alive(found.identity) else None


def ensure_keeper(settings: NightingaleHub) -> Keeping:
    """Return the keeper that runs and answers, started now when there is none.

    One that runs and does not answer is ended first. Raises `Unavailable`. Blocks.
    """
    with _only_one(settings):
        found = find_keeper(settings)
        if found is not None:
            try:
                found.ask_status()
                return found
            except Unavailable:
                end_keeper(found)
        return _start(settings)


def end_keeper(keeper: Keeping) -> None:
    """End it with its providers; what they do for a run is broken off."""
    send_signal(keeper.identity, signal.SIGTERM)
    if not wait_gone(keeper.identity, 15):
        send_signal(keeper.identity, signal.SIGKILL)
        wait_gone(keeper.identity, 5)


@contextlib.contextmanager
def _only_one(settings: NightingaleHub) -> Iterator[None]:
    # Two supervisors that find none at once would start two.
    path = settings.state_path / "terraform" / "keeper.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(settings: NightingaleHub) -> Keeping:
    log = settings.state_path / "terraform" / "keeper.log"
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with log.open("ab") as file:
        # Through a shell that ends at once, so that it is nobody's child and outlives us.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *PROGRAM],
            env={**environment, **settings.to_environment()},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            check=True,
        )
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        found = find_keeper(settings)
        if found is not None:
            with contextlib.suppress(Unavailable):
                found.ask_status()
                return found
        time.sleep(0.05)
    raise Unavailable(f"terraform's keeper did not start; {log} says why")
