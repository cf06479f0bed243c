"""`nightingale data`: the datasets of this hub, their terms, and what I read of them."""

import argparse
import json
from typing import Any

from nightingale_hub.clock import format_time
from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.report import format_facts, format_table
from nightingale_hub.text import visible

STATES = {
    "open": "yours",
    "terms": "accept its terms",
    "asked": "asked for",
    "none": "may be asked for",
}


def add_data(command: argparse.ArgumentParser) -> None:
    """Give *command* what narrows it."""
    command.add_argument("name", metavar="NAME", nargs="?", help="one dataset, with its terms")
    command.add_argument(
        "--files", action="store_true", help="the files that NAME holds, for a loader to go by"
    )
    command.add_argument("--read", action="store_true", help="the files that I read, and how much")


def run_data(options: argparse.Namespace, console: ConsoleClient) -> None:
    """Print the datasets, one with its terms, or the files that were read."""
    if options.files:
        _print_listing(options, console)
        return
    if options.read:
        _print_files(options, console)
        return
    found = console.get("datasets")["datasets"]
    if options.name is not None:
        found = [each for each in found if each["name"] == options.name]
        if not found:
            raise NotFound(f"no dataset {options.name[:60]!r} is here; see nightingale data")
    if options.json:
        print(json.dumps({"datasets": found}))
    elif options.name is not None:
        print(_format_one(found[0], console))
    else:
        rows = [(each["name"], _format_state(each), each["title"]) for each in found]
        print(format_table(("DATASET", "ACCESS", "TITLE"), rows) if rows else "No dataset is here.")
        if any(each["state"] != "open" for each in found):
            print(f"Terms are accepted, and access is asked for, on {_page(console)}")


def list_listing(console: ConsoleClient, dataset: str) -> list[tuple[str, int]]:
    """Return each file of *dataset* with its size in bytes, as its manifest has them.

    Raises `NotFound` for one that is not open, `Unavailable` until it is measured.
    """
    files: list[tuple[str, int]] = []
    start: int | None = 0
    while start is not None:
        page = console.get("listing", dataset=dataset, **{"from": start})
        files += [(str(path), int(size)) for path, size in page["files"]]
        start = page["next"]
    return files


def _print_listing(options: argparse.Namespace, console: ConsoleClient) -> None:
    if options.name is None:
        raise BadInput("say of which dataset: nightingale data NAME --files")
    files = list_listing(console, options.name)
    if options.json:
        rows = [{"path": path, "bytes": size} for path, size in files]
        print(json.dumps({"dataset": options.name, "files": rows}))
        return
    for path, _ in files:
        print(visible(path))


def _print_files(options: argparse.Namespace, console: ConsoleClient) -> None:
    files: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while True:
        page = console.get("files", dataset=options.name, **after)
        files += page["files"]
        if not page["next"]:
            break
        after = dict(zip(("after_dataset", "after_path"), page["next"], strict=True))
    if options.json:
        print(json.dumps({"files": files}))
        return
    rows = [
        (
            each["dataset"],
            f"{each['reads']:,}",
            f"{each['bytes']:,}",
            format_time(each["last_us"]),
            each["path"],
        )
        for each in files
    ]
    if rows:
        print(format_table(("DATASET", "READS", "BYTES", "LAST", "PATH"), rows, "READS BYTES"))
    total = sum(each["bytes"] for each in files)
    print(f"{len(files):,} files, {total:,} bytes read")


def _format_one(one: dict[str, Any], console: ConsoleClient) -> str:
    facts = [
        ("Dataset", one["name"]),
        ("Title", one["title"]),
        ("Access", _format_state(one)),
        ("About", one["description"]),
    ]
    terms = one["terms"].splitlines() or ["none"]
    facts += [(f"Terms, v{one['terms_version']}", line) for line in terms]
    if one["refused"]:
        facts.append(("Refused", one["refused"]))
    if one["state"] != "open":
        facts.append(("Next", f"accept its terms, or ask for it, on {_page(console)}"))
    return format_facts(facts)


def _format_state(one: dict[str, Any]) -> str:
    until = "" if one["until_us"] is None else f" until {format_time(one['until_us'])}"
    return f"{STATES.get(one['state'], one['state'])}{until}"


def _page(console: ConsoleClient) -> str:
    return f"{visible(console.pages_url)}datasets"
