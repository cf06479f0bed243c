"""The runner of one run: gets it its size, keeps the instance while it runs, does what follows.

Started by runs.start in a session of its own, so no terminal takes it along. Everything it does
is in run.json before it does it. A hub that is down is asked again: what was asked for in the
evening has to happen in the night.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nightingale_hub.clock import US_PER_S, format_duration, now_us
from nightingale_hub.errors import Conflict, NightingaleError, TooMany, Unavailable
from nightingale_hub.instance.attempt import Ends, attempt
from nightingale_hub.instance.change import wait_resized
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.memory import find_next_size
from nightingale_hub.instance.runs import Run, State, Work, identify, load
from nightingale_hub.processes import is_alive, parse_identity

LEASE_S = 600
LEASE_EVERY_S = 60.0
ASK_WITHIN_S = 24 * 3600.0
ASK_PAUSE_S = 5.0
MAX_ASK_PAUSE_S = 60.0
LOOK_EVERY_S = 1.0
IDLE_EVERY_S = 10.0
IDLE_LOOKS = 2
BUSY_GPU_PERCENT = 10.0
MAX_ATTEMPTS = 3

log = logging.getLogger("nightingale")
Answer = TypeVar("Answer")


class Cancelled(Exception):
    """The run is not wanted any more, or the instance ends."""


@dataclass
class Runner:
    """Works on *run*; `ends` counts who asked it to end."""

    run: Run
    console: ConsoleClient
    environment: dict[str, str]
    ends: Ends = field(default_factory=Ends)
    clock: Callable[[], float] = time.monotonic

    def work(self) -> None:
        """Do the whole of it, whatever goes wrong, and record how it ended."""
        run = self.run
        works = {Work.COMMAND: self._command, Work.PID: self._process, Work.IDLE: self._idle}
        try:
            try:
                works[run.work]()
            except OSError as error:
                self._fail(error)
            if run.then:
                self._then()
        except Cancelled:
            if run.state == State.WAITING and not run.is_cancelled:
                return  # the instance ends, perhaps for its new size: it is gone on with there
            why = "cancelled" if run.is_cancelled else "cut short: the instance ends"
            self._end(why, exit_code=run.exit_code)
            return
        except NightingaleError as error:
            # Without its size the command was not run, so nothing follows.
            self._end(f"not run: {error}", failed=True, exit_code=error.exit_code)
            return
        self._end(run.outcome, exit_code=run.exit_code)

    def _fail(self, error: OSError) -> None:
        # A home that is full or a log that is gone ends the run, not what was to follow it.
        run = self.run
        log.error("%s failed", run.id, exc_info=error)
        if self.ends.count:
            raise Cancelled
        run.outcome, run.exit_code = f"failed: {error}", NightingaleError.exit_code
        self._tell(run.outcome, failed=True)

    def _command(self) -> None:
        run = self.run
        threading.Thread(target=self._lease, name="lease", daemon=True).start()
        while True:
            self._ensure_size()
            self._enter(State.RUNNING)
            result = attempt(run, self.ends, self.environment)
            run.attempts.append(result.record)
            run.exit_code = result.exit_code
            if self.ends.count:
                raise Cancelled
            spent_s = (result.record["ended_us"] - result.record["started_us"]) // US_PER_S
            run.outcome = f"exit {result.exit_code} after {format_duration(spent_s)}"
            if result.shortage is None or not self._tries_again(result.shortage):
                break
        self._enter(State.ENDING)
        self._tell(run.outcome, failed=run.exit_code != 0)

    def _tries_again(self, shortage: str) -> bool:
        run = self.run
        run.outcome += f", out of {shortage} memory"
        if not run.on_oom or len(run.attempts) >= MAX_ATTEMPTS:
            return False
        if run.on_oom == "step-up":
            sizes = self._ask(lambda: self.console.get("sizes"))["sizes"]
            larger = find_next_size(sizes, shortage)
            if larger is None:
                run.outcome += f"; no larger {shortage} size can be had"
                return False
            run.size, run.size_asked_us = {**run.size, shortage: larger}, None
            self._tell(f"{run.outcome}; it is run again with {shortage} {larger}", failed=True)
        self._enter(State.WAITING)
        return True

    def _ensure_size(self) -> None:
        run = self.run
        if not run.size or self._has(run.size):
            return
        last = self._ask(lambda: self.console.get("resize"))["last"]
        if not _is_asked(run, last):
            run.size_asked_us = 0 if last is None else last["asked_us"] + 1
            run.save()
            self._ask(lambda: self.console.post("resize", dict(run.size)))
        # Asked for before the server was started again: only how that ended counts.
        last = wait_resized(self.console)
        if last["phase"] != "done":
            raise Conflict(str(last["outcome"]))
        if not self._has(run.size):
            raise Conflict(f"the instance has another size: {last['outcome']}")

    def _has(self, size: dict[str, str]) -> bool:
        sizes = self._ask(lambda: self.console.get("sizes"))["sizes"]
        has = {each["resource"]: each["size"] for each in sizes if each["is_current"]}
        return all(has.get(name) == letter for name, letter in size.items())

    def _process(self) -> None:
        self._enter(State.RUNNING)
        threading.Thread(target=self._lease, name="lease", daemon=True).start()
        who = parse_identity(self.run.process)
        while is_alive(who):
            self._pause(LOOK_EVERY_S)
        self.run.outcome = f"process {who.pid} has ended"

    def _idle(self) -> None:
        self._enter(State.RUNNING)
        last_us, looks = now_us(), 0
        while looks < IDLE_LOOKS:
            self._pause(IDLE_EVERY_S)
            use = self._ask(lambda: self.console.get("status")).get("use")
            if use is None or use["told_us"] <= last_us:
                continue
            last_us = use["told_us"]
            looks = looks + 1 if is_idle(use) else 0
        self.run.outcome = "nothing was in use"

    def _then(self) -> None:
        run = self.run
        run.then_outcome = "asked"
        self._enter(State.ENDING)
        try:
            if run.then == "stop":
                self._ask(lambda: self.console.post("stop"))
                run.then_outcome = "stopped"
            elif self._has(run.then_size):
                run.then_outcome = "it had that size already"
            else:
                self._ask(lambda: self.console.post("resize", dict(run.then_size)))
                run.then_outcome = str(wait_resized(self.console)["outcome"])
        except NightingaleError as error:
            run.then_outcome = f"not done: {error}"
            self._tell(f"{run.outcome}; {run.then_title} was not done: {error}", failed=True)

    def _end(self, outcome: str, failed: bool = False, exit_code: int | None = None) -> None:
        run = self.run
        run.outcome, run.exit_code, run.ended_us = outcome, exit_code, now_us()
        self._enter(State.ENDED)
        if failed:
            self._tell(outcome, failed=True)

    def _enter(self, state: State) -> None:
        self.run.state = state
        try:
            self.run.save()
        except OSError:
            # A home that is full is no reason to let an instance run on that was to be stopped.
            log.exception("%s could not be written down", self.run.id)

    def _tell(self, outcome: str, failed: bool) -> None:
        run = self.run
        if not run.notifies:
            return
        follows = f"\nThen: {run.then_title}." if run.then else ""
        body = {
            "subject": f"{run.title[:120]}: {outcome}"[:200],
            "body": f"Run {run.id} in {run.cwd}: {outcome}.{follows}\nLog: {run.log}"[:4000],
            "kind": "error" if failed else "run",
        }
        try:
            self.console.post("notices", body)
        except NightingaleError as error:
            log.warning("nobody was told: %s", error)

    def _lease(self) -> None:
        while True:
            try:
                self.console.post("extend", for_s=LEASE_S, lease=1)
            except NightingaleError as error:
                log.info("the instance is not kept: %s", error)
            time.sleep(LEASE_EVERY_S)

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """Return the answer, asked again for a day while the hub is away."""
        deadline, pause_s = self.clock() + ASK_WITHIN_S, ASK_PAUSE_S
        while True:
            try:
                return question()
            except (Unavailable, TooMany) as error:
                if self.clock() > deadline:
                    raise
                log.info("asked again in %g s: %s", pause_s, error)
            self._pause(pause_s)
            pause_s = min(pause_s * 2, MAX_ASK_PAUSE_S)

    def _pause(self, pause_s: float) -> None:
        until = self.clock() + pause_s
        while self.clock() < until:
            if self.ends.count:
                raise Cancelled
            time.sleep(0.1)


def _is_asked(run: Run, last: dict[str, Any] | None) -> bool:
    # One that is done, and yet the instance has another size, was somebody else's.
    since_us = run.size_asked_us
    is_newer = since_us is not None and last is not None and last["asked_us"] >= since_us
    return is_newer and last is not None and last["phase"] != "done"


def is_idle(use: dict[str, Any]) -> bool:
    """Tell whether nothing works: no kernel, no program, no GPU; what is unknown may work."""
    gpu = use["gpu_percent"]
    is_known = use["busy_kernels"] is not None and use["programs"] is not None
    rests = gpu is None or gpu < BUSY_GPU_PERCENT
    return (
        is_known
        and not use["unknown"]
        and not use["busy_kernels"]
        and not use["programs"]
        and rests
    )


def main(arguments: list[str]) -> int:
    """Work on the run in the folder that is named first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = load(Path(arguments[0]))
    if run.has_runner() or run.state == State.ENDED:
        log.error("%s is worked on already, or over", run.id)
        return 1
    run.runner = identify(os.getpid())
    ends = Ends()
    run.save()  # whoever reads this may send signals from here on
    console = ConsoleClient.from_environment(os.environ)
    Runner(run, console, dict(os.environ), ends).work()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
