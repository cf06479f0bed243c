"""`nightingale manifest`: what a run read, as a file that the audit log's key signed."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from nightingale_hub.durable import save_text
from nightingale_hub.errors import BadInput
from nightingale_hub.instance import runs
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.text import visible


def add_manifest(command: argparse.ArgumentParser) -> None:
    """Give *command* what narrows a manifest, and where it goes."""
    which = command.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="RUN", dest="run_id", help="what happened during a run")
    which.add_argument("--instance", metavar="ID", help="another instance of mine")
    command.add_argument("--pid", type=int, metavar="PID", help="one process alone")
    command.add_argument(
        "--out", metavar="FILE", default="manifest.json", help="default: manifest.json"
    )


def run_manifest(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Write the signed manifest to a file and say what it holds."""
    query: dict[str, Any] = {"instance": options.instance, "pid": options.pid}
    if options.run_id:
        query |= _span(options.run_id)
    document = console.get("manifest", **query)
    path = Path(options.out)
    try:
        save_text(path, json.dumps(document), mode=0o644)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    files = document["manifest"]["files"]
    size = sum(each["bytes"] for each in files)
    if options.json:
        print(json.dumps({"file": str(path), "files": len(files), "bytes": size}))
        return
    print(f"{visible(str(path))}: {len(files):,} files, {size:,} bytes read, signed by the log")
    print(f"Anyone checks it: nightingale audit manifest {visible(str(path))} --key KEY")


def _span(run_id: str) -> dict[str, Any]:
    run = runs.get(os.environ, run_id)
    if not run.attempts:
        raise BadInput(f"run {run.id} has not run to an end yet; wait for it")
    return {
        "instance": run.instance_id or None,
        "since_us": run.attempts[0]["started_us"],
        "until_us": run.attempts[-1]["ended_us"] + 1,
    }
