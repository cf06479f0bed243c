"""One Terraform run, as seen by whoever asked for it or by a successor.

The run is its directory: `pid.json` says who runs it, `journal.ndjson` what it says,
`status.json` how it ended. Nothing here is the run's parent in more than name, so any of this
may be killed and made again from the directory.
"""

import asyncio
import inspect
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from nightingale_hub.durable import create_text, find_json, save_text
from nightingale_hub.errors import TerraformFailed
from nightingale_hub.processes import (
    Identity,
    is_alive,
    list_marked,
    list_session,
    parse_identity,
    send_signal,
    wait_gone,
)
from nightingale_hub.terraform.journal import Event, Journal
from nightingale_hub.terraform.launcher import RUN_MARK

LAUNCHER_STARTS_WITHIN_S = 20.0
POLL_S = 0.05


class Phase(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    FINISHED = "finished"  # its status is on disk, and nothing of it is left
    UNKNOWN = "unknown"  # its launcher died without a status: the action must be run again


@dataclass(frozen=True)
class Result:
    """How a run ended; `exit_status` is None when nobody knows."""

    exit_status: int | None
    errors: list[str] = field(default_factory=list)

    def raise_for_failure(self) -> None:
        """Raise `TerraformFailed` with the first error's own words unless all went well."""
        if self.exit_status == 0:
            return
        if self.exit_status is None:
            raise TerraformFailed("terraform was killed before it could say how it ended; retry")
        raise TerraformFailed(
            self.errors[0]
            if self.errors
            else f"terraform ended with status {self.exit_status} and said no reason"
        )


class Run:
    """One run of Terraform in a workspace."""

    def __init__(self, directory: Path, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Take the run in *directory*; *process* is its launcher where this process started it."""
        self.directory = directory
        self.action = directory.name.rpartition("-")[2]
        self._process = process

    def look(self) -> Phase:
        """Return how far it is now, from its directory and /proc.

        A run whose launcher has not shown up is revoked here: it will not start any more.
        """
        self._reap()
        if self._find_status() is not None:
            return Phase.FINISHED
        identity = self._find_launcher()
        if identity is None:
            create_text(self.directory / "pid.json", "{}")
            identity = self._find_launcher()
        if identity is not None and is_alive(identity):
            return Phase.RUNNING
        # It may have written its status and gone between the two looks.
        return Phase.FINISHED if self._find_status() is not None else Phase.UNKNOWN

    async def wait_started(self) -> None:
        """Wait until the launcher is on record; raises `TerraformFailed` when it never shows."""
        for _ in range(int(LAUNCHER_STARTS_WITHIN_S / POLL_S)):
            if (self.directory / "pid.json").exists():
                return
            if self._reap() is not None:
                break
            await asyncio.sleep(POLL_S / 5)
        if self.look() is Phase.UNKNOWN:
            raise TerraformFailed(
                f"the launcher of {self.directory} did not start; see journal.ndjson there"
            )

    async def wait(self, on_step: Callable[[str], object] | None = None) -> Result:
        """Wait for the end and return it; *on_step* gets each step's message, once.

        *on_step* may be a coroutine function. A step may be told again after a crash, never lost.
        """
        told_path = self.directory / "told"
        told = int(told_path.read_text()) if told_path.exists() else 0
        journal = Journal(self.directory / "journal.ndjson")
        errors: list[str] = []
        steps = 0
        while True:
            is_over = self.look() is not Phase.RUNNING
            for event in journal.read_events():
                if event.error is not None:
                    errors.append(event.error)
                steps += event.is_step
                if event.is_step and steps > told:
                    await _tell(event, on_step)
                    told = steps
                    save_text(told_path, str(told))
            if is_over:
                if self._process is not None:
                    # Its status is its last act; it must not stay behind as a zombie.
                    await asyncio.to_thread(self._process.wait)
                return Result(self._find_status(), errors)
            await asyncio.sleep(POLL_S)

    def cancel(self) -> bool:
        """Interrupt Terraform, which then ends in order and saves its state; False when over.

        Never more than an interrupt: a killed Terraform forgets what it was making.
        """
        identity = self._find_launcher()
        return identity is not None and send_signal(identity, signal.SIGINT)

    async def end_leftovers(self, timeout_s: float) -> bool:
        """Interrupt what outlived a dead launcher; return whether nothing is left."""
        launcher = self._find_launcher()
        if launcher is None:
            return True
        # Its number may by now be another's, whose session bears no mark of this run.
        session = set(list_session(launcher.pid))
        leftovers = session.intersection(list_marked(RUN_MARK, str(self.directory)))
        for each in leftovers:
            send_signal(each, signal.SIGINT)
        gone = [await asyncio.to_thread(wait_gone, each, timeout_s) for each in leftovers]
        return all(gone)

    def list_outputs(self) -> dict[str, object]:
        """Return the outputs that this run printed at its end, by name."""
        outputs: dict[str, object] = {}
        for event in Journal(self.directory / "journal.ndjson").read_events():
            if event.kind == "outputs":
                outputs = {n: each.get("value") for n, each in event.data["outputs"].items()}
        return outputs

    def _find_launcher(self) -> Identity | None:
        data = find_json(self.directory / "pid.json")
        return parse_identity(data) if data else None

    def _find_status(self) -> int | None:
        data = find_json(self.directory / "status.json")
        return None if data is None else int(data["exit_status"])

    def _reap(self) -> int | None:
        return None if self._process is None else self._process.poll()


async def _tell(event: Event, on_step: Callable[[str], object] | None) -> None:
    if on_step is None or not event.is_step:
        return
    told = on_step(event.message)
    if inspect.isawaitable(told):
        await told
