"""`nightingale resize` and `nightingale extend`: another size, or more time, for what runs here."""

import argparse
import json
import re
import time
from typing import Any

from nightingale_hub.clock import format_time
from nightingale_hub.errors import BadInput, Conflict, NightingaleError, Unavailable
from nightingale_hub.instance import report
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.later import add_when_idle, is_later, run_later
from nightingale_hub.instance.terminal import check_can_ask, is_confirmed, say
from nightingale_hub.text import visible

RESOURCES = ("cpu", "gpu", "disk")
UNITS_S = {"m": 60, "h": 3600, "d": 86400}
RESIZED_WITHIN_S = 300.0
LOOK_PAUSE_S = 0.5


def add_resize(command: argparse.ArgumentParser) -> None:
    """Give *command* the options of a resize."""
    for resource in RESOURCES:
        command.add_argument(f"--{resource}", metavar="SIZE", help=f"the new {resource} size")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_when_idle(command)


def run_resize(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Say what a resize does and costs, ask, resize, and say how it ended.

    Raises `BadInput` without a size, and without -y where nobody can be asked; `Conflict` when
    the old size was kept, with the reason.
    """
    size = {each: getattr(options, each) for each in RESOURCES if getattr(options, each)}
    if not size:
        raise BadInput("name a size: --cpu, --gpu or --disk; see nightingale sizes")
    if not options.yes:
        check_can_ask("resize")
        say(report.format_resize_plan(console.get("resize", **size)["plan"]))
        if not is_confirmed("Resize it?"):
            say("Nothing was changed.")
            return
    if is_later(options):
        run_later(options, "resize", size)
        return
    accepted = console.post("resize", size)
    last = wait_resized(console)
    if options.json:
        print(json.dumps({"plan": accepted["plan"], "last": last}), flush=True)
    elif last["phase"] == "done":
        print(visible(f"{last['outcome']}."), flush=True)
    if last["phase"] != "done":
        raise Conflict(last["outcome"])


def run_extend(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Keep the instance for a time, and say until when."""
    for_s = parse_duration(options.duration)
    kept = console.post("extend", for_s=for_s)
    if options.json:
        print(json.dumps(kept))
    else:
        print(f"It is not stopped as idle before {format_time(kept['keep_until_us'])}.")


def parse_duration(text: str) -> int:
    """Return the seconds of *text*: 90m, 2h, 1d; raises `BadInput` for anything else."""
    found = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    if found is None or int(found[1]) == 0:
        raise BadInput(f"{text[:40]!r} is no time; write 90m, 2h or 1d")
    return int(found[1]) * UNITS_S[found[2]]


def wait_resized(console: ConsoleClient) -> dict[str, Any]:
    """Return how the newest resize ended, once it has; raises `NightingaleError` after a limit."""
    deadline = time.monotonic() + RESIZED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            last = console.get("resize")["last"]
        except Unavailable as error:
            # It goes on without this program; a console that restarts is back in a moment.
            say(f"still waiting: {visible(str(error))}")
            last = None
        if last is not None and last["ended_us"] is not None:
            return dict(last)
        time.sleep(LOOK_PAUSE_S)
    raise NightingaleError(
        f"the resize is not over after {RESIZED_WITHIN_S:g} s; it goes on, see nightingale status"
    )
