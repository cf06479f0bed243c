"""Runs: what `nightingale run` and the delayed `stop` and `resize` were asked for, on record.

A run is a folder in the home, written before anything is started: `run.json`, and the `log` of
its command. A runner (runner.py) of its own works on it; whoever asked may go away.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from nightingale_hub.clock import now_us, to_datetime
from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import BadInput, Conflict, NotFound, Unavailable
from nightingale_hub.processes import find_identity, is_alive, parse_identity, send_signal

RUNNER = "nightingale_hub.instance.runner"
INSTANCE_NAME = "NIGHTINGALE_INSTANCE_ID"
STARTED_WITHIN_S = 20.0


class Work(StrEnum):
    """What a run does before its `then`."""

    COMMAND = "command"
    PID = "pid"  # wait until a process has ended
    IDLE = "idle"  # wait until nothing is in use


class State(StrEnum):
    """How far a run is."""

    WAITING = "waiting"  # for its size, or for what it waits for
    RUNNING = "running"
    ENDING = "ending"  # its command is over, its `then` is not
    ENDED = "ended"


@dataclass
class Run:
    """One run; times are µs since the epoch."""

    id: str
    folder: str
    instance_id: str
    work: Work
    command: list[str] = field(default_factory=list)
    cwd: str = ""
    process: dict[str, Any] = field(default_factory=dict)  # waited for: processes.Identity
    size: dict[str, str] = field(default_factory=dict)  # wanted before the command
    size_asked_us: int | None = None  # by the hub's clock: a resize from then on may be ours
    on_oom: str = ""  # retry | step-up
    then: str = ""  # stop | resize
    then_size: dict[str, str] = field(default_factory=dict)
    notifies: bool = False
    log: str = ""
    state: State = State.WAITING
    attempts: list[dict[str, Any]] = field(default_factory=list)
    asked_us: int = 0
    ended_us: int | None = None
    exit_code: int | None = None
    outcome: str = ""  # for its person
    then_outcome: str = ""
    runner: dict[str, Any] = field(default_factory=dict)  # processes.Identity

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        if self.work == Work.COMMAND:
            return " ".join(self.command)[:120]
        what = f"process {self.process.get('pid')} has ended" if self.process else "all is idle"
        return f"wait until {what}"

    @property
    def then_title(self) -> str:
        """What follows, in a few words; empty for nothing."""
        if self.then != "resize":
            return self.then
        return "resize to " + ", ".join(f"{name} {size}" for name, size in self.then_size.items())

    @property
    def is_cancelled(self) -> bool:
        """Whether its person does not want it any more."""
        return (Path(self.folder) / "cancel").exists()

    def save(self) -> None:
        """Write it down; raises `OSError`."""
        save_json(Path(self.folder) / "run.json", asdict(self))

    def has_runner(self) -> bool:
        """Tell whether its runner lives."""
        return bool(self.runner) and is_alive(parse_identity(self.runner))

    def to_dict(self) -> dict[str, Any]:
        """Return it as programs read it."""
        lost = self.state != State.ENDED and not self.has_runner()
        return {**asdict(self), "state": "lost" if lost else self.state.value}


def find_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of all runs."""
    return Path(environment.get("HOME") or "~").expanduser() / ".local/share/nightingale/runs"


def create(environment: Mapping[str, str], work: Work, **values: Any) -> Run:
    """Write a new run down; raises `BadInput` where the home takes no file."""
    at_us = now_us()
    day = to_datetime(at_us).strftime("%Y%m%d-%H%M%S")
    run_id = f"r-{day}-{secrets.token_hex(2)}"
    folder = find_folder(environment) / run_id
    made = Run(
        id=run_id,
        folder=str(folder),
        instance_id=environment.get(INSTANCE_NAME, ""),
        work=work,
        cwd=os.getcwd(),
        asked_us=at_us,
        **{"log": str(folder / "log"), **values},
    )
    try:
        folder.mkdir(parents=True, mode=0o700)
        made.save()
        Path(made.log).open("ab").close()
    except OSError as error:
        raise BadInput(
            f"the run cannot be written to {error.filename or folder} ({error.strerror}), so "
            "nothing was started; free some space or name another --log"
        ) from error
    return made


def load(folder: Path) -> Run:
    """Return the run in *folder*; raises `NotFound`."""
    try:
        data = find_json(folder / "run.json")
    except (OSError, ValueError):
        data = None
    names = {each.name for each in fields(Run)}
    if data is None or not {"id", "folder", "instance_id", "work"} <= set(data) <= names:
        raise NotFound(f"no run {folder.name[:40]!r} is here; see nightingale run")
    made = Run(**{**data, "folder": str(folder)})
    made.work, made.state = Work(made.work), State(made.state)
    return made


def get(environment: Mapping[str, str], run_id: str) -> Run:
    """Return the run *run_id*; raises `BadInput` for what names none, `NotFound`."""
    if not re.fullmatch(r"r-[0-9a-f-]{1,40}", run_id):
        raise BadInput(f"{run_id[:40]!r} is no run; see nightingale run")
    return load(find_folder(environment) / run_id)


def list_runs(environment: Mapping[str, str]) -> list[Run]:
    """Return every run that can be read, oldest first."""
    found = []
    for folder in sorted(find_folder(environment).glob("r-*")):
        try:
            found.append(load(folder))
        except NotFound:
            continue
    return found


def start(run: Run, environment: Mapping[str, str]) -> None:
    """Start the runner of *run*, which outlives this process; raises `Unavailable`."""
    said = Path(run.folder) / "runner.log"
    with said.open("ab") as file:
        runner = subprocess.Popen(
            # Its last word says whether it is a program at work (programs.py).
            [sys.executable, "-m", RUNNER, run.folder, run.work.value],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    # Whoever stays, as the Jupyter server does, leaves no zombie behind.
    threading.Thread(target=runner.wait, name="reap", daemon=True).start()
    deadline = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < deadline:
        latest = load(Path(run.folder))
        if latest.runner.get("pid") == runner.pid:
            run.runner = latest.runner
            return
        if runner.poll() is not None:
            break
        time.sleep(0.05)
    runner.kill()
    raise Unavailable(f"the run could not be started; {said} says why")


def cancel(run: Run, number: signal.Signals = signal.SIGTERM) -> None:
    """End *run* without its `then`; raises `Conflict` for one that is over."""
    if run.state == State.ENDED:
        raise Conflict(f"run {run.id} is over already: {run.outcome}")
    (Path(run.folder) / "cancel").touch()
    if not (run.has_runner() and send_signal(parse_identity(run.runner), number)):
        run.state, run.outcome, run.ended_us = State.ENDED, "cancelled", now_us()
        run.save()


def resume(environment: Mapping[str, str]) -> list[Run]:
    """Go on with what a restart of this instance cut short, and return it.

    A run that waits for its size, as after a resize, is started. A command that was cut short is
    not run again, and nothing follows it: its person may be at work here.
    """
    resumed = []
    for run in list_runs(environment):
        # A home may serve several servers, and another's runner need not be visible from here.
        is_ours = run.instance_id == environment.get(INSTANCE_NAME, "")
        if run.state == State.ENDED or not is_ours or run.has_runner():
            continue
        if run.state == State.WAITING and run.work == Work.COMMAND:
            start(run, environment)
            resumed.append(run)
            continue
        run.outcome = "cut short: the instance or its runner ended; nothing follows it"
        run.state, run.ended_us = State.ENDED, now_us()
        run.save()
    return resumed


def identify(pid: int) -> dict[str, Any]:
    """Return who *pid* is now, fit for a run; raises `NotFound`."""
    found = find_identity(pid)
    if found is None:
        raise NotFound(f"no process {pid} runs here")
    return found.to_dict()
