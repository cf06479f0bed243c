"""Kills hub, supervisor or Terraform at each edge of start, resize and stop of a local instance.

One case is one whole life with one kill in it. After it the instance is known, its state is right,
its seconds are right, and there was exactly one of it.
"""

import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from nightingale_hub.clock import now_us
from nightingale_hub.durable import find_json
from nightingale_hub.offers import Size
from nightingale_hub.processes import list_marked, parse_identity, send_signal
from nightingale_hub.requests import Kind, Request, ask
from nightingale_hub.tables.instances import terraform_run
from nightingale_hub.tables.metering import segment
from nightingale_hub.tables.supervision import resize
from nightingale_hub.terraform.launcher import RUN_MARK
from tests.client import SMALL, wait_for
from tests.fleet import TerraformDouble
from tests.hub import Hub, list_processes, read_command, running_hub
from tests.record import list_shapes

VICTIMS = ("hub", "supervisor", "terraform")
# Each names what of the record shows that the edge was taken, or that Terraform works.
POINTS = (
    "requested",
    "requested_to_launching",
    "apply runs",
    "launching_to_booting",
    "booting_to_running",
    "resize asked",
    "running_to_resizing",
    "resize runs",
    "resizing_to_running",
    "stop accepted",
    "running_to_stopping",
    "destroy runs",
)
WITHIN_S = 90.0
# The hub looks every 30 s, which no setting changes, whether a service of its own still runs.
LOOKS_OFTEN = """
from jupyterhub.services.service import _ServiceSpawner
_ServiceSpawner.poll_interval = 2
"""
LOOK_PAUSE_S = 0.003


class TerraformThatTakesItsTime(TerraformDouble):
    """Half a second passes before it begins, so that a kill may fall into a run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "sleep 0.5")


@dataclass(frozen=True)
class Case:
    """One kill."""

    victim: str
    point: str

    def __str__(self) -> str:
        """Read as `supervisor at apply runs`."""
        return f"{self.victim} at {self.point}"


def list_cases() -> list[Case]:
    """Return every kill; Terraform can be killed only where it runs."""
    return [
        Case(victim, point)
        for point in POINTS
        for victim in VICTIMS
        if victim != "terraform" or point.endswith(" runs")
    ]


def run(sample: int | None, seed: int) -> tuple[str, bool]:
    """Run every case, or *sample* of them by *seed*; return the report, and if all is well."""
    cases = list_cases()
    if sample is not None:
        cases = random.Random(seed).sample(cases, sample)
    lines = ["# Soak: supervisors", "", "| Killed | At | Result | Seconds |", "|---|---|---|---|"]
    failures = 0
    began_s = time.monotonic()
    with soaking() as hub:
        for case in cases:
            at_s = time.monotonic()
            try:
                live(hub, case)
                result = "well"
            except AssertionError as error:
                failures += 1
                result = f"FAILED: {str(error)[:300]}".replace("\n", " ").replace("|", "/")
                clear(hub)
            took_s = time.monotonic() - at_s
            lines.append(f"| {case.victim} | {case.point} | {result} | {took_s:.1f} |")
    lines += [
        "",
        f"{len(cases)} lives of a local instance, each with one kill -9, in "
        f"{time.monotonic() - began_s:.0f} s; {failures} failed. After each kill: the instance is "
        "known, there is one of it, it gets where it was wanted, it is metered from ready to the "
        "accepted stop without a gap, and nothing of it is left.",
    ]
    return "\n".join(lines) + "\n", failures == 0


@contextmanager
def soaking() -> Iterator[Hub]:
    """Yield a hub with one user and a Terraform that takes its time."""
    with tempfile.TemporaryDirectory() as folder:
        double = TerraformThatTakesItsTime(Path(folder) / "bin")
        path = f"{double.folder}:{os.environ['PATH']}"
        config = "c.NightingaleHub.stop_retry_s = 0.5" + LOOKS_OFTEN
        with running_hub(config=config, environment={"PATH": path}) as hub:
            yield hub


def live(hub: Hub, case: Case) -> None:
    """Start, resize and stop an instance with the kill in between; raises `AssertionError`."""
    alice = hub.client("alice")
    seen_us = now_us()
    alice.submit_form(SMALL)
    key = wait_for(lambda: _find_new(hub, seen_us), "the start is written down", WITHIN_S)
    if case.point in POINTS[:5]:
        kill_at(hub, case, key)
    running = wait_state(hub, key, "running")
    agents = [each for each in list_processes(key) if "instance.agent" in read_command(each)]
    assert len({each.pid for each in agents}) >= 1, "no agent runs"
    _ask_resize(hub, key)
    if case.point in POINTS[5:9]:
        kill_at(hub, case, key)
    wait_for(lambda: is_resized(hub, key), "the resize is over", WITHIN_S)
    row = wait_state(hub, key, "running")
    assert (row.cpu, row.boot_id) == ("M", running.boot_id), (row.cpu, row.boot_id)
    if case.point in POINTS[9:]:
        ask_stop(hub, key)
        kill_at(hub, case, key)
    else:
        ask_stop(hub, key)
    row = wait_state(hub, key, "stopped")
    check(hub, key, row)
    wait_for(lambda: alice.find_server() is None, "the hub has let go of it", WITHIN_S)


def clear(hub: Hub) -> None:
    """Bring the hub back and remove what a failed case left, so that the next one counts."""
    hub.restart()
    for row in hub.list_instances("alice"):
        if row.gone_us is None:
            ask_stop(hub, row.id)
            wait_state(hub, row.id, "stopped")
    alice = hub.client("alice")
    wait_for(lambda: alice.find_server() is None, "the hub has let go of it", WITHIN_S)


def kill_at(hub: Hub, case: Case, key: str) -> None:
    """Wait for the point, and kill."""
    deadline = time.monotonic() + WITHIN_S
    while not is_at(hub, key, case.point):
        assert time.monotonic() < deadline, f"{case.point} was never reached"
        time.sleep(LOOK_PAUSE_S)
    if case.victim == "hub":
        hub.kill()
        hub.restart()
    elif case.victim == "supervisor":
        hub.kill_service("supervisor")
    else:
        kill_terraform(hub, key)


def check(hub: Hub, key: str, row: Row[Any]) -> None:
    """Raise `AssertionError` unless all that a life leaves is right."""
    assert list_processes(key) == [], "processes are left"
    assert [each.id for each in hub.list_instances("alice") if each.gone_us is None] == []
    lines = [line.edge for line in hub.list_progress(key) if line.edge]
    assert lines.count("booting_to_running") == lines.count("stopping_to_stopped") == 1, lines
    with hub.database.read() as conn:
        shapes = [(each.cpu, each.cause) for each in list_shapes(conn, key)]
    assert shapes == [("S", "launch"), ("M", "resize")], shapes
    assert all(each.ended_us is not None for each in list_runs(hub, key)), "a run is open"
    ready = wait_for(lambda: find_ready(hub, key), "its segments are closed", WITHIN_S)
    assert ready[0].start_us == row.ready_us, "it was metered late"
    assert ready[-1].end_us == row.stop_accepted_us, "it was metered too long or too short"
    for one, following in itertools.pairwise(ready):
        assert one.end_us == following.start_us, "seconds are lost or doubled"


def list_runs(hub: Hub, key: str) -> list[Row[Any]]:
    """Return Terraform's runs of an instance as the record has them."""
    query = select(terraform_run).where(terraform_run.c.instance_id == key)
    with hub.database.read() as conn:
        return list(conn.execute(query))


def wait_state(hub: Hub, key: str, state: str) -> Row[Any]:
    """Return the instance once it is in *state*."""

    def look() -> Row[Any] | None:
        row = _get(hub, key)
        return row if row.actual == state else None

    row: Row[Any] = wait_for(look, f"{key} is {state}", WITHIN_S)
    return row


def _get(hub: Hub, key: str) -> Row[Any]:
    return next(each for each in hub.list_instances("alice") if each.id == key)


def _find_new(hub: Hub, since_us: int) -> str | None:
    rows = [each for each in hub.list_instances("alice") if each.created_us >= since_us]
    return rows[0].id if rows else None


def _ask_resize(hub: Hub, key: str) -> None:
    wish = Request(key, Kind.RESIZE, "alice", "a bigger model", size=Size("M"))
    hub.database.transact(lambda conn: ask(conn, wish, now_us()))


def ask_stop(hub: Hub, key: str) -> None:
    wish = Request(key, Kind.STOP, "alice", "done")
    hub.database.transact(lambda conn: ask(conn, wish, now_us()))


def is_resized(hub: Hub, key: str) -> bool:
    with hub.database.read() as conn:
        query = select(resize.c.ended_us).where(resize.c.instance_id == key)
        return any(conn.execute(query).scalars())


def find_ready(hub: Hub, key: str) -> list[Row[Any]] | None:
    query = select(segment).where(segment.c.instance_id == key, segment.c.meter == "ready")
    with hub.database.read() as conn:
        rows = list(conn.execute(query.order_by(segment.c.start_us)))
    return rows if rows and all(each.end_us is not None for each in rows) else None


def is_at(hub: Hub, key: str, point: str) -> bool:
    looks: dict[str, Callable[[], bool]] = {
        "requested": lambda: True,
        "apply runs": lambda: _find_run(hub, key, "apply", 1) is not None,
        "resize asked": lambda: True,
        "resize runs": lambda: _find_run(hub, key, "apply", 2) is not None,
        "stop accepted": lambda: _get(hub, key).stop_accepted_us is not None,
        "destroy runs": lambda: _find_run(hub, key, "destroy", 1) is not None,
    }
    if point in looks:
        return looks[point]()
    return any(line.edge == point for line in hub.list_progress(key))


def _find_run(hub: Hub, key: str, action: str, number: int) -> Path | None:
    """Return the directory of the *number*th run of *action* once its process is on record."""
    folder = hub.state / "terraform" / key / "runs"
    runs = sorted(folder.glob(f"*-{action}")) if folder.is_dir() else []
    found = runs[number - 1] if len(runs) >= number else None
    return found if found is not None and (found / "pid.json").exists() else None


def kill_terraform(hub: Hub, key: str) -> None:
    """Kill the newest run with all that it started but the instance itself."""
    folder = sorted((hub.state / "terraform" / key / "runs").iterdir())[-1]
    data = find_json(folder / "pid.json")
    if data:
        send_signal(parse_identity(data), signal.SIGKILL)
    for each in list_marked(RUN_MARK, str(folder)):
        if "instance.agent" not in read_command(each):
            send_signal(each, signal.SIGKILL)
