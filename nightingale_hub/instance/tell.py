"""`nightingale notify`: tells its person something by the ways that they chose at the hub."""

import argparse
import json
import sys

from nightingale_hub.errors import BadInput
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.text import visible

MAX_BODY_CHARS = 4000


def add_notify(command: argparse.ArgumentParser) -> None:
    """Give *command* what is told."""
    command.add_argument("subject", metavar="SUBJECT", help="what happened, in a line")
    command.add_argument("body", metavar="BODY", nargs="?", default="", help="more; - reads stdin")
    command.add_argument("--error", action="store_true", help="something went wrong")


def run_notify(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Tell it and say by which ways it goes; raises `BadInput` for too long a text."""
    body = options.body
    if body == "-":
        body = sys.stdin.read(MAX_BODY_CHARS + 1)
        if len(body) > MAX_BODY_CHARS:
            raise BadInput(f"the body has more than {MAX_BODY_CHARS} characters; send its end")
    kind = "error" if options.error else "run"
    told = console.post("notices", {"subject": options.subject, "body": body, "kind": kind})
    if options.json:
        print(json.dumps(told))
        return
    ways = ", ".join(visible(each) for each in told["ways"])
    where = f"Lab, the hub's Notices page, {ways}" if ways else "Lab and the hub's Notices page"
    print(f"Told: {where}.")
