"""`nightingale run`: a command that outlives its terminal, and what is to follow it.

It writes the run down, starts its runner and shows its log; the runner does the rest.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from nightingale_hub.errors import BadInput, Conflict, NightingaleError
from nightingale_hub.instance import report, runs
from nightingale_hub.instance.change import RESOURCES
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.runs import Run, State, Work
from nightingale_hub.instance.terminal import check_can_ask, is_confirmed, say
from nightingale_hub.text import visible

LOOK_PAUSE_S = 0.2
INTERRUPTED = 130
DESCRIPTION = """\
Run a command that outlives its terminal, and do what is to follow it.

Keeps the instance from being stopped as idle meanwhile. The output goes to a log and is
shown; closing the tab ends neither. Ctrl-C ends the command, and then nothing follows it.
Without a command it lists the runs. The exit code is the command's.
"""


def add_run(command: argparse.ArgumentParser) -> None:
    """Give *command* the options of a run."""
    command.description = DESCRIPTION
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    for resource in RESOURCES:
        command.add_argument(
            f"--{resource}", metavar="SIZE", help=f"resize to this {resource} size first"
        )
    command.add_argument(
        "--then",
        metavar="WHAT",
        help="afterwards, however the command ended: stop, resize:S (cpu S and no GPU), or "
        "resize:cpu=S,gpu=none",
    )
    command.add_argument(
        "--on-oom",
        choices=("retry", "step-up"),
        help="after out-of-memory run it again, as it is or one size larger; 3 times at most",
    )
    command.add_argument("--notify", action="store_true", help="tell me how it ended")
    command.add_argument("--log", metavar="FILE", help="where the output goes")
    command.add_argument("-d", "--detach", action="store_true", help="do not show the output")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    command.add_argument("--follow", metavar="RUN", help="show the output of a run that goes on")
    command.add_argument("--cancel", metavar="RUN", help="end a run, and nothing follows it")
    command.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command")


def run_run(options: argparse.Namespace, console: ConsoleClient) -> int:
    """Run, list, follow or cancel; return the exit code of the command that was waited for."""
    if options.cancel:
        runs.cancel(runs.get(os.environ, options.cancel))
        print(json.dumps({"cancelled": True}) if options.json else "Cancelled.")
        return 0
    if options.follow:
        return follow(runs.get(os.environ, options.follow), options.json)
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        found = runs.list_runs(os.environ)
        shown = [each.to_dict() for each in found]
        print(json.dumps({"runs": shown}) if options.json else report.format_runs(shown))
        return 0
    size = {each: getattr(options, each) for each in RESOURCES if getattr(options, each)}
    then, then_size = parse_then(options.then)
    if size and not _is_agreed(console, size, options.yes):
        say("Nothing was run.")
        return 0
    log = {"log": str(Path(options.log).absolute())} if options.log else {}
    made = runs.create(
        os.environ,
        Work.COMMAND,
        command=argv,
        size=size,
        then=then,
        then_size=then_size,
        on_oom=options.on_oom or "",
        notifies=options.notify,
        **log,
    )
    runs.start(made, os.environ)
    if not options.json:
        follows = f", then: {made.then_title}" if made.then else ""
        say(f"Run {made.id}{follows}; it goes on without this terminal. Log: {visible(made.log)}")
    if options.detach:
        print(json.dumps(made.to_dict()) if options.json else made.id)
        return 0
    return follow(made, options.json)


def follow(run: Run, as_json: bool = False) -> int:
    """Show the log of *run* as it grows until it is over, and return its command's exit code.

    An interrupt ends the run, each further one more firmly. Raises `Conflict` when its runner is
    gone before it is over.
    """
    interrupts = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        try:
            runs.cancel(runs.load(Path(run.folder)), signal.SIGINT)
        except NightingaleError:
            pass  # it is over

    before = signal.signal(signal.SIGINT, interrupt)
    shown = 0
    try:
        while True:
            latest = runs.load(Path(run.folder))
            is_over = latest.state == State.ENDED or not latest.has_runner()
            if not as_json:
                shown = _show(Path(run.log), shown)
            if is_over:
                break
            time.sleep(LOOK_PAUSE_S)
    finally:
        signal.signal(signal.SIGINT, before)
    latest = runs.load(Path(run.folder))
    if latest.state != State.ENDED:
        raise Conflict(f"run {run.id} has lost its runner; its log is {run.log}")
    if as_json:
        print(json.dumps(latest.to_dict()))
    else:
        then = f"; {latest.then_title}: {latest.then_outcome}" if latest.then_outcome else ""
        say(visible(f"Run {latest.id}: {latest.outcome}{then}."))
    if latest.exit_code is not None:
        return latest.exit_code
    if latest.is_cancelled:
        return INTERRUPTED
    # What waited has no code of its own: it came to its end if something followed.
    has_waited = latest.work != Work.COMMAND and latest.then_outcome
    return 0 if has_waited else NightingaleError.exit_code


def parse_then(text: str | None) -> tuple[str, dict[str, str]]:
    """Return what `--then` asks for: nothing, `stop`, or `resize` and its size.

    Raises `BadInput`.
    """
    if text is None:
        return "", {}
    if text == "stop":
        return "stop", {}
    kind, _, size = text.partition(":")
    if kind == "resize" and re.fullmatch(r"[A-Z]{1,3}", size):
        return "resize", {"cpu": size, "gpu": "none"}
    pairs = dict(re.findall(r"([a-z]+)=([A-Za-z]+)", size))
    if kind != "resize" or not pairs or ",".join(f"{k}={v}" for k, v in pairs.items()) != size:
        raise BadInput(f"--then {text[:40]!r}: write stop, resize:S or resize:cpu=S,gpu=none")
    unknown = sorted(set(pairs) - set(RESOURCES))
    if unknown:
        raise BadInput(f"--then resizes {', '.join(RESOURCES)}, and no {unknown[0]!r}")
    return "resize", pairs


def _is_agreed(console: ConsoleClient, size: dict[str, str], yes: bool) -> bool:
    has = {
        each["resource"]: each["size"]
        for each in console.get("sizes")["sizes"]
        if each["is_current"]
    }
    if all(has.get(name) == letter for name, letter in size.items()):
        return True
    plan = console.get("resize", **size)["plan"]
    if yes:
        return True
    check_can_ask("resize")
    say(report.format_resize_plan(plan))
    return is_confirmed("Resize it and run?")


def _show(log: Path, since: int) -> int:
    try:
        with log.open("rb") as file:
            file.seek(since)
            while part := file.read(1 << 16):
                sys.stdout.buffer.write(part)
                since += len(part)
    except FileNotFoundError:
        return since
    sys.stdout.buffer.flush()
    return since
