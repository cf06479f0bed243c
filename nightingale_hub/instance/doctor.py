"""`nightingale doctor`: what is well here and what is not, each with what to do next."""

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightingale_hub.errors import NightingaleError
from nightingale_hub.instance import runs
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.local_status import load_local
from nightingale_hub.instance.report import format_facts

LEAST_FREE_BYTES = 1 << 30
SLOW_S = 2.0
SMI_WITHIN_S = 10.0


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is well, and what was found."""

    what: str
    is_well: bool
    says: str


def run_doctor(options: argparse.Namespace, console: ConsoleClient) -> int:
    """Print what was found; return 0 when all is well, else 1."""
    found = list(examine(os.environ, console))
    if options.json:
        print(json.dumps({"findings": [asdict(each) for each in found]}))
    else:
        print(
            format_facts(
                (each.what, f"{'ok' if each.is_well else 'NO'}  {each.says}") for each in found
            )
        )
    return 0 if all(each.is_well for each in found) else NightingaleError.exit_code


def examine(environment: Mapping[str, str], console: ConsoleClient) -> Iterator[Finding]:
    """Yield what is found, the hub first; changes nothing."""
    began = time.monotonic()
    status: dict[str, Any] | None = None
    try:
        status = console.get("status")
    except NightingaleError as error:
        yield Finding("Hub", False, str(error))
    else:
        took_s = time.monotonic() - began
        slow = took_s > SLOW_S
        yield Finding(
            "Hub", not slow, f"answers in {took_s:.1f} s{', which is slow' if slow else ''}"
        )
        for text in status["missing"]:
            yield Finding("Hub", False, text)
        yield from _examine_instance(status)
    missing: list[str] = []
    local = load_local(environment, missing)
    for text in missing:
        yield Finding("Agent", False, text)
    if local is not None:
        yield from _examine_data(local)
    yield _examine_home(environment)
    yield from _examine_gpu(status)
    lost = [run.id for run in runs.list_runs(environment) if run.to_dict()["state"] == "lost"]
    if lost:
        yield Finding("Runs", False, f"{', '.join(lost)} lost their runner; see nightingale run")


def _examine_instance(status: dict[str, Any]) -> Iterator[Finding]:
    one, use = status["instance"], status.get("use")
    if one is None:
        yield Finding("Instance", False, "none runs for this server")
        return
    yield Finding("Instance", one["state"] == "running", f"{one['id']} is {one['state']}")
    if use is not None and use["unknown"]:
        yield Finding("Use", False, f"the agent can't tell: {'; '.join(use['unknown'])}")


def _examine_data(local: dict[str, Any]) -> Iterator[Finding]:
    if local.get("data_refused"):
        yield Finding("Datasets", False, f"none is mounted: {local['data_refused']}")
        return
    path = local.get("datasets")
    if not path:
        yield Finding("Datasets", True, "none is granted; see nightingale data")
        return
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        yield Finding("Datasets", False, f"{path} cannot be read: {error.strerror}")
        return
    yield Finding("Datasets", True, f"{', '.join(names) or 'none'} in {path}")
    audit = local.get("audit") or {}
    if audit.get("state", "served") != "served":
        yield Finding("Reading", False, f"{audit.get('says')}: {audit.get('why')}")


def _examine_home(environment: Mapping[str, str]) -> Finding:
    home = Path(environment.get("HOME") or "/")
    try:
        free = shutil.disk_usage(home).free
    except OSError as error:
        return Finding("Home", False, f"{home} cannot be read: {error.strerror}")
    says = f"{free / (1 << 30):,.1f} GiB free in {home}"
    if free < LEAST_FREE_BYTES:
        return Finding("Home", False, f"{says}; delete files, or nightingale resize --disk M")
    return Finding("Home", os.access(home, os.W_OK), says)


def _examine_gpu(status: dict[str, Any] | None) -> Iterator[Finding]:
    one = (status or {}).get("instance")
    if one is None or one.get("gpu", "none") == "none":
        return
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=SMI_WITHIN_S
        ).stdout.strip()
        yield Finding("GPU", True, said.replace("\n", "; "))
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("GPU", False, f"nvidia-smi does not answer: {error}")
