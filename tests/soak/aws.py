"""Kills hub, supervisor, Terraform, keeper or provider at each edge of an instance's life on AWS.

The cloud is moto, the provider is the real one. The keeper is broker and state backend in one
process. Several lives go on at once, so each kill falls into every other life at any moment too.
"""

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert

from nightingale_hub.clock import now_us
from nightingale_hub.errors import NightingaleError
from nightingale_hub.instances import get
from nightingale_hub.launch import Launch, create
from nightingale_hub.offers import Offer, Size
from nightingale_hub.processes import send_signal
from nightingale_hub.secrets_at_rest import encrypt
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.supervision import resize
from nightingale_hub.terraform.keeping import find_keeper
from tests.aws import REGION, Aws, running_moto
from tests.client import wait_for
from tests.hub import Hub, running_hub
from tests.record import list_shapes
from tests.soak.boots import Boots, find_tag
from tests.soak.supervisors import (
    LOOK_PAUSE_S,
    LOOKS_OFTEN,
    POINTS,
    Case,
    ask_stop,
    find_ready,
    is_at,
    is_resized,
    kill_terraform,
    list_runs,
)

VICTIMS = ("hub", "supervisor", "terraform", "keeper", "provider")
# Terraform and the provider it uses can be killed where it runs.
ONLY_IN_A_RUN = ("terraform", "provider")
AT_ONCE = 8
WITHIN_S = 400.0
# An apply takes half a minute: the kill falls somewhere into it.
RUN_DELAY_S = 12.0
OFFER = Offer("aws", REGION, "g4dn.xlarge", Size(), 1, 10, 526_000_000)
BIGGER = {"instance_type": "g5.xlarge", "cpu": "M", "gpu": "none", "disk": "S"}


@dataclass
class World:
    """One hub, one account, and what boots in it."""

    hub: Hub
    aws: Aws
    boots: Boots
    settings: NightingaleHub
    killing: threading.Lock


def list_cases(points: Sequence[str] = POINTS) -> list[Case]:
    """Return every kill at *points*."""
    return [
        Case(victim, point)
        for point in points
        for victim in VICTIMS
        if victim not in ONLY_IN_A_RUN or point.endswith(" runs")
    ]


def run_starts(sample: int | None, seed: int) -> tuple[str, bool]:
    """Run the kills of a start; a quarter of an hour, as the others."""
    return run(POINTS[:5], sample, seed)


def run_changes(sample: int | None, seed: int) -> tuple[str, bool]:
    """Run the kills of resize and stop."""
    return run(POINTS[5:], sample, seed)


def run(points: Sequence[str], sample: int | None, seed: int) -> tuple[str, bool]:
    """Run every case, or *sample* of them by *seed*; return the report, and if all is well."""
    cases, rng = list_cases(points), random.Random(seed)
    if sample is not None:
        cases = rng.sample(cases, sample)
    delays = [rng.uniform(0, RUN_DELAY_S) for _ in cases]
    began_s = time.monotonic()
    with soaking() as world, ThreadPoolExecutor(AT_ONCE) as pool:
        numbers = range(len(cases))
        results = list(pool.map(lambda n: try_one(world, cases[n], n, delays[n]), numbers))
    failed = sum(result != "well" for result, _ in results)
    lines = [
        "# Soak: supervisors on AWS",
        "",
        "| Killed | At | Result | Seconds |",
        "|---|---|---|---|",
    ]
    for case, (result, took_s) in zip(cases, results, strict=True):
        lines.append(f"| {case.victim} | {case.point} | {result} | {took_s:.0f} |")
    lines += [
        "",
        f"{len(cases)} lives of an instance on moto's AWS with the real provider, {AT_ONCE} at a "
        f"time, each with one kill -9 of its own, in {time.monotonic() - began_s:.0f} s; {failed} "
        "failed. After each kill: the instance is known, there never was a second of it in the "
        "cloud, it gets where it was wanted, it is metered from ready to the accepted stop without "
        "a gap, its home is the same and kept, and nothing else of it is left.",
    ]
    return "\n".join(lines) + "\n", failed == 0


@contextmanager
def soaking() -> Iterator[World]:
    """Yield a world without instances; at its end nothing is left."""
    with running_moto() as aws:
        lines = [f"c.NightingaleHub.{name} = {each!r}" for name, each in aws.settings.items()]
        config = "\n".join([*lines, "c.NightingaleHub.stop_retry_s = 0.5"]) + LOOKS_OFTEN
        with running_hub(config=config) as hub:
            boots = Boots(aws, hub.url)
            settings = NightingaleHub.from_dict({"state_dir": str(hub.state), "db_url": hub.db_url})
            try:
                yield World(hub, aws, boots, settings, threading.Lock())
            finally:
                boots.close()
                keeper = find_keeper(settings)
                if keeper is not None:
                    send_signal(keeper.identity, signal.SIGTERM)


def try_one(world: World, case: Case, number: int, delay_s: float) -> tuple[str, float]:
    """Live one case; return how it went and the seconds that it took."""
    began_s = time.monotonic()
    try:
        live(world, case, f"user{number}", delay_s)
        result = "well"
    except AssertionError as error:
        result = f"FAILED: {str(error)[:300]}".replace("\n", " ").replace("|", "/")
    return result, time.monotonic() - began_s


def live(world: World, case: Case, owner: str, delay_s: float) -> None:
    """Start, resize and stop an instance with the kill in between; raises `AssertionError`."""
    hub = world.hub
    key = _start(world, owner)
    if case.point in POINTS[:5]:
        kill_at(world, case, key, delay_s)
    running = _wait_state(world, key, "running")
    [made] = [each for each in world.aws.list_instances() if find_tag(each) == key]
    _ask_resize(hub, key)
    if case.point in POINTS[5:9]:
        kill_at(world, case, key, delay_s)
    wait_for(lambda: is_resized(hub, key), "the resize is over", WITHIN_S)
    row = _wait_state(world, key, "running")
    assert (row.cpu, row.boot_id) == ("M", running.boot_id), (row.cpu, row.boot_id)
    [now] = [each for each in world.aws.list_instances() if find_tag(each) == key]
    assert (now["InstanceId"], now["InstanceType"]) == (made["InstanceId"], "g5.xlarge")
    ask_stop(hub, key)
    if case.point in POINTS[9:]:
        kill_at(world, case, key, delay_s)
    check(world, key, _wait_state(world, key, "stopped"))


def kill_at(world: World, case: Case, key: str, delay_s: float) -> None:
    """Wait for the point, and kill; one at a time, each once its last victim is back."""
    deadline = time.monotonic() + WITHIN_S
    while not is_at(world.hub, key, case.point):
        assert time.monotonic() < deadline, f"{case.point} was never reached"
        time.sleep(LOOK_PAUSE_S * 10)
    if case.point.endswith(" runs"):
        time.sleep(delay_s)
    with world.killing:
        if case.victim == "hub":
            world.hub.kill()
            world.hub.restart()
        elif case.victim == "supervisor":
            wait_for(lambda: _has_supervisor(world.hub), "a supervisor runs", 60)
            world.hub.kill_service("supervisor")
        elif case.victim == "terraform":
            kill_terraform(world.hub, key)
        else:
            _kill_keeper(world, case.victim)


def check(world: World, key: str, row: Row[Any]) -> None:
    """Raise `AssertionError` unless all that a life leaves is right."""
    hub, aws = world.hub, world.aws
    assert [each["InstanceId"] for each in aws.list_instances() if find_tag(each) == key] == []
    assert world.boots.most.get(key) == 1, f"{world.boots.most.get(key)} at once in the cloud"
    edges = [line.edge for line in hub.list_progress(key) if line.edge]
    assert edges.count("booting_to_running") == edges.count("stopping_to_stopped") == 1, edges
    with hub.database.read() as conn:
        shapes = [(each.cpu, each.cause) for each in list_shapes(conn, key)]
    assert shapes == [("S", "launch"), ("M", "resize")], shapes
    assert all(each.ended_us is not None for each in list_runs(hub, key)), "a run is open"
    ready = wait_for(lambda: find_ready(hub, key), "its segments are closed", WITHIN_S)
    assert ready[0].start_us == row.ready_us, "it was metered late"
    assert ready[-1].end_us == row.stop_accepted_us, "it was metered too long or too short"
    for one, following in itertools.pairwise(ready):
        assert one.end_us == following.start_us, "seconds are lost or doubled"


def _start(world: World, owner: str) -> str:
    """Write down that an instance is wanted, as the spawner does."""
    secret = {"cmd": ["jupyterhub-singleuser"], "args": [], "env": {}}
    sealed = encrypt(world.settings.secret_key(), secret)
    launch = Launch(owner, "", OFFER, sealed, f"/user/{owner}/")
    key: str = world.hub.database.transact(lambda conn: create(conn, launch, now_us()))
    return key


def _ask_resize(hub: Hub, key: str) -> None:
    values = {**BIGGER, "nano_usd_per_hour": 1_006_000_000, "actor": "alice", "phase": "asked"}
    hub.database.transact(
        lambda conn: conn.execute(
            insert(resize).values(instance_id=key, asked_us=now_us(), **values)
        )
    )


def _wait_state(world: World, key: str, state: str) -> Row[Any]:
    def look() -> Row[Any] | None:
        with world.hub.database.read() as conn:
            row = get(conn, key)
        ended = row.actual == "stopped" and state != "stopped"
        assert not ended, f"it stopped: {row.reason}"
        return row if row.actual == state else None

    try:
        row: Row[Any] = wait_for(look, f"{key} is {state}", WITHIN_S)
    except AssertionError as error:
        said = [line.edge or line.message for line in world.hub.list_progress(key)]
        raise AssertionError(f"{error}; last: {said[-2:]}") from error
    return row


def _has_supervisor(hub: Hub) -> bool:
    with suppress(AssertionError):
        hub.get_service("supervisor")
        return True
    return False


def _kill_keeper(world: World, victim: str) -> None:
    """Kill broker and state backend, or the provider's processes; none there yet is fine."""
    keeper = find_keeper(world.settings)
    if keeper is None:
        return
    if victim == "keeper":
        send_signal(keeper.identity, signal.SIGKILL)
        return
    with suppress(NightingaleError):
        for pid in keeper.ask_status()["providers"]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
