"""What `stop` and `resize` do later rather than now: a run that waits, without its terminal."""

import argparse
import json
import os
from typing import Any

from nightingale_hub.instance import runs
from nightingale_hub.instance.runs import Work


def add_later(command: argparse.ArgumentParser) -> None:
    """Give *command* the conditions on which it is done later, by itself."""
    when = command.add_mutually_exclusive_group()
    when.add_argument(
        "--when-done", type=int, metavar="PID", help="once the process PID has ended, well or not"
    )
    add_when_idle(when)


def add_when_idle(command: Any) -> None:
    """Give *command* the option to be done when nothing is in use."""
    command.add_argument(
        "--when-idle",
        action="store_true",
        help="once no kernel is busy, no program runs and the GPU rests",
    )


def run_later(options: argparse.Namespace, then: str, then_size: dict[str, str]) -> None:
    """Have *then* happen when the condition of `add_later` is met, without this terminal."""
    if options.when_idle:
        work, process = Work.IDLE, {}
    else:
        work, process = Work.PID, runs.identify(options.when_done)
    made = runs.create(os.environ, work, process=process, then=then, then_size=then_size)
    runs.start(made, os.environ)
    if options.json:
        print(json.dumps(made.to_dict()))
    else:
        what = made.title.removeprefix("wait until ")
        print(f"{made.then_title} once {what}; undo it: nightingale run --cancel {made.id}")


def is_later(options: argparse.Namespace) -> bool:
    """Tell whether a condition of `add_later` was given."""
    return bool(options.when_idle or getattr(options, "when_done", None) is not None)
