"""`nightingale`: the instance, its cost and its stop, from a terminal or a script.

It asks the console and prints; it decides nothing. Results go to stdout, all else to stderr;
with --json stdout has one JSON object, also for an error. Exit codes are those of errors.py.
"""

import argparse
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

from nightingale_hub.clock import US_PER_S, format_time, now_us
from nightingale_hub.errors import BadInput, NightingaleError, NotFound
from nightingale_hub.instance import report, runs
from nightingale_hub.instance.admin import add_admin, run_admin
from nightingale_hub.instance.audit_commands import add_commands, run_audit
from nightingale_hub.instance.catalogue import add_data, run_data
from nightingale_hub.instance.change import UNITS_S, add_resize, run_extend, run_resize
from nightingale_hub.instance.completion import HEAD, format_completion
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.doctor import run_doctor
from nightingale_hub.instance.later import add_later, is_later, run_later
from nightingale_hub.instance.local_status import load_local
from nightingale_hub.instance.manifest_command import add_manifest, run_manifest
from nightingale_hub.instance.run_command import add_run, run_run
from nightingale_hub.instance.runs import State
from nightingale_hub.instance.tell import add_notify, run_notify
from nightingale_hub.instance.terminal import check_can_ask, is_confirmed, say
from nightingale_hub.text import visible

FINAL_COST_WITHIN_S = 5.0
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE
EPILOG = """\
exit codes: 0 done, 1 the output cannot be written, 2 bad input or not in an instance,
3 not allowed, 4 nothing there, 5 conflict, 6 the hub or a part of it does not answer,
11 the audit log was edited, 130 interrupted, 141 broken pipe
"""


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as every other error."""

    def error(self, message: str) -> NoReturn:
        """Raise `BadInput` with argparse's *message* and where to read more."""
        raise BadInput(f"{message}; see {self.prog} --help")


class ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than the rest."""

    def __call__(self, *_: object, **__: object) -> None:
        """Print the version and exit."""
        from importlib.metadata import version

        print(f"nightingale {version('nightingale-hub')}")
        raise SystemExit(0)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="nightingale",
        description="See, change and stop the instance that this runs in, and see its cost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace, Any], int | None], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.add_argument(
            "--timeout",
            type=_parse_timeout,
            default=10.0,
            metavar="S",
            help="seconds to wait for the hub (default: 10)",
        )
        command.set_defaults(run=run)
        return command

    _add_commands(add)
    return parser


def _add_commands(add: Callable[..., Any]) -> None:
    add("status", run_status, "show the instance, its cost, its audit and its datasets")
    cost = add("cost", run_cost, "show what you were charged, per instance, and the sum")
    cost.add_argument(
        "--since",
        metavar="WHEN",
        help="from this UTC date or time (2026-11-23, 2026-11-23T08:00), or so long ago "
        "(90m, 24h, 7d); default: since the month began",
    )
    add("sizes", run_sizes, "show the sizes of an instance and what they cost")
    add_run(add("run", run_run, "run a command that outlives its terminal, then stop or resize"))
    add_resize(add("resize", run_resize, "give the instance another size; the files stay"))
    extend = add("extend", run_extend, "keep the instance from being stopped as idle")
    extend.add_argument("duration", metavar="TIME", help="for so long from now: 90m, 2h or 1d")
    stop = add("stop", run_stop, "stop the instance: kernels end, files stay, the charge ends")
    stop.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_later(stop)
    add_notify(add("notify", run_notify, "tell me something, by the ways that I chose"))
    add_data(add("data", run_data, "show the datasets, their terms, and what I read of them"))
    add_manifest(add("manifest", run_manifest, "write down what was read here, signed by the log"))
    add("doctor", run_doctor, "look at what is well here and what is not")
    add_commands(add("audit", run_audit, "check a bundle of the audit log, with no hub"))
    add_admin(add("admin", run_admin, "money and fleet, for the hub's admins and managers"))
    shell = add("complete", run_completion, "print what completes this in bash or zsh")
    shell.add_argument("shell", choices=HEAD, nargs="?", default="bash")


def run_completion(options: argparse.Namespace, _console: None) -> None:
    """Print the script, which asks no hub."""
    print(format_completion(build_parser(), options.shell), end="")


def run_status(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Print the status."""
    status = console.get("status")
    local = load_local(os.environ, status["missing"])
    active = [run.to_dict() for run in runs.list_runs(os.environ) if run.state != State.ENDED]
    if options.json:
        print(json.dumps({**status, "local": local, "runs": active}))
    else:
        print(report.format_status(status, local, active))


def run_cost(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Print the charges since an instant."""
    since_us = None if options.since is None else parse_since(options.since, now_us())
    cost = console.get("cost", since_us=since_us)
    print(json.dumps(cost) if options.json else report.format_cost(cost))


def run_sizes(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Print the sizes."""
    sizes = console.get("sizes")
    print(json.dumps(sizes) if options.json else report.format_sizes(sizes))


def run_stop(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Say what a stop does, ask, stop, and say what it cost in the end.

    The stop ends this process too where it runs in the instance, so each line is written at
    once. Raises `BadInput` without -y where nobody can be asked.
    """
    if not options.yes:
        check_can_ask("stop")
        one = console.get("status")["instance"]
        if one is None:
            raise NotFound("nothing runs here, so nothing was stopped")
        say(report.format_stop_plan(one))
        if not is_confirmed("Stop it?"):
            say("Nothing was stopped.")
            return
    if is_later(options):
        run_later(options, "stop", {})
        return
    stopped = console.post("stop")
    if options.json:
        print(json.dumps(stopped), flush=True)
        return
    one = stopped["instance"]
    if not stopped["accepted"]:
        print(f"Instance {visible(one['id'])} is gone since {format_time(one['gone_us'])}.")
        return
    accepted = format_time(one["stop_accepted_us"])
    print(
        f"Stop of {visible(one['id'])} accepted at {accepted}; the charge ends there.", flush=True
    )
    _print_final_cost(console, one)


OFFLINE = (run_audit, run_completion)


def parse_since(text: str, at_us: int) -> int:
    """Return the instant that *text* names, µs: a UTC date or time, or so long before *at_us*.

    Raises `BadInput` for anything else, and for the future.
    """
    ago = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if ago:
        since_us = at_us - int(ago[1]) * UNITS_S[ago[2]] * US_PER_S
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise BadInput(
                f"--since {text[:40]!r} is no time; write 2026-11-23, 2026-11-23T08:00, 90m, "
                "24h or 7d"
            ) from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since_us = int(moment.timestamp()) * US_PER_S
    if not 0 <= since_us <= at_us:
        raise BadInput(f"--since {text[:40]!r} is not in the past")
    return since_us


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name in letters that this terminal's locale lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            options = build_parser().parse_args(given)
            console = None
            if options.run not in OFFLINE and getattr(options, "config", None) is None:
                console = ConsoleClient.from_environment(os.environ, options.timeout)
            code = options.run(options, console) or 0
        except NightingaleError as error:
            # What follows `--` is a run's own.
            ours = given[: given.index("--")] if "--" in given else given
            code = _print_error(error, as_json="--json" in ours)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("Interrupted.")
        return INTERRUPTED
    except OSError as error:
        # Python flushes stdout once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        say(f"nightingale: the output cannot be written: {error.strerror}")
        return NightingaleError.exit_code


def _print_error(error: NightingaleError, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
    else:
        say(f"nightingale: {visible(str(error))}")
    return error.exit_code


def _print_final_cost(console: ConsoleClient, one: dict[str, Any]) -> None:
    deadline = time.monotonic() + FINAL_COST_WITHIN_S
    instance_id = one["id"]
    while one["cost_state"] != "posted" and time.monotonic() < deadline:
        time.sleep(0.25)
        try:
            latest = console.get("status")["instance"]
        except NightingaleError:
            break  # the stop ends this token, and soon this process
        if latest is None or latest["id"] != instance_id:
            break
        one = latest
    if one["cost_state"] == "posted":
        print(report.format_final_cost(one))
    else:
        print(f"Its final cost will be on {visible(console.pages_url)}statement")


def _parse_timeout(text: str) -> float:
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = 0.0
    if not 0.1 <= timeout_s <= 600:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.1 to 600")
    return timeout_s


if __name__ == "__main__":
    sys.exit(main())
