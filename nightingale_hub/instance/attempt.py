"""One start of a run's command: in a process group of its own, its output in the log, to its end.

Whoever asks again and again to end it is obeyed more and more firmly.
"""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from nightingale_hub.clock import now_us
from nightingale_hub.instance.memory import count_kills, find_shortage, read_tail
from nightingale_hub.instance.runs import Run

FIRMER = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
NOT_FOUND, NOT_RUNNABLE = 127, 126  # as shells report them
RUN_NAME = "NIGHTINGALE_RUN_ID"


class Ends:
    """The signals of a runner: what was asked, passed on to the command while there is one."""

    def __init__(self) -> None:
        """Take SIGINT and SIGTERM over; only in the main thread."""
        self.count = 0
        self.firmness = 0
        self.group: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # A stop of the instance leaves no time for an interrupt that a program may think over.
        first = 1 if number == signal.SIGTERM else 0
        self.firmness = min(max(first, self.count), len(FIRMER) - 1)
        self.count += 1
        self.pass_on()

    def pass_on(self) -> None:
        """Send the command what was asked last, if anything was and there is one."""
        if self.group is not None and self.count:
            try:
                os.killpg(self.group, FIRMER[self.firmness])
            except ProcessLookupError:
                pass  # it ended just now


@dataclass(frozen=True)
class Result:
    """How an attempt ended: *shortage* is the resource whose memory ran out."""

    exit_code: int
    shortage: str | None
    record: dict[str, Any]


def attempt(run: Run, ends: Ends, environment: dict[str, str]) -> Result:
    """Run the command of *run* once and wait until it has ended.

    What it leaves in the background goes on, as a shell's would. The exit code is a shell's: 128
    and the signal for one that was killed, 126 or 127 for one that could not be started.
    """
    log, started_us, kills = Path(run.log), now_us(), count_kills()
    begins = log.stat().st_size if log.exists() else 0
    with log.open("ab") as said:
        try:
            process = subprocess.Popen(
                run.command,
                cwd=run.cwd,
                # A log is read while it is written, so Python is not to hold lines back.
                env={"PYTHONUNBUFFERED": "1", **environment, RUN_NAME: run.id},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            said.write(f"nightingale: {run.command[0]}: {error.strerror}\n".encode())
            exit_code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
            pid = None
        else:
            pid = ends.group = process.pid
            ends.pass_on()  # what was asked while it started
            status = process.wait()
            ends.group = None
            exit_code = status if status >= 0 else 128 - status
    shortage = find_shortage(exit_code, read_tail(log, begins), count_kills() - kills)
    record = {
        "started_us": started_us,
        "ended_us": now_us(),
        "pid": pid,
        "exit_code": exit_code,
        "out_of_memory": shortage,
    }
    return Result(exit_code, None if ends.count else shortage, record)
