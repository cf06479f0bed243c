"""1,000 instance-years, and 10 instance-days with a poll every second, against the truth.

In the years a poll is made around each event and some in between; the others would change
nothing. The database is in memory, for what is held against the truth is not the disk. What each
world came to is kept in build/soak, so that a run that is broken off goes on where it was; a world
is lived anew once the code that measures, bills or simulates has changed.
"""

import hashlib
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from nightingale_hub.database import Database
from tests.simulation import simulate

SERVERS = 12
DAYS = 1300  # so that 25 worlds live more than 1,000 instance-years
WORLDS = 25
PACES = (80, 400)  # how much slower than at 1: of the first two worlds, of the others
FIRST_OF_SECONDS = 1000  # the seeds of the worlds with a poll every second
PACE_OF_SECONDS = 0.05  # so that in hours happens what else takes weeks
SECONDS_WORLDS = 12  # of 10 servers for 0.1 days: together more than 10 instance-days
SHM = Path("/dev/shm")
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "soak" / "billing.json"
CODE = ("services/metering", "services/billing", "tests/simulation.py", "nightingale_hub/usage.py")
HEAD = f"""# Metering and billing against the truth

`bin/soak billing`: each world lives through reboots, resizes, crashes, faults, price changes, late,
lost and doubled beats, a clock that is set, and kills around any commit. Then every microsecond
that was measured and every micro-unit that is owed is compared with the truth, and every line is
worked out again. What happens in the worlds of years is {PACES[0]} times rarer than it could be for
seeds 0 and 1, and {PACES[1]} times for the others; from seed {FIRST_OF_SECONDS} on every second is
polled, and much happens.
"""


def run(sample: int | None, seed: int) -> tuple[str, bool]:
    """Live through all worlds, or *sample* small ones from *seed* on; return what was found."""
    logging.getLogger("nightingale").setLevel(logging.CRITICAL)
    schema = make_schema()
    is_whole = sample is None
    if sample is None:
        # Those with every second first: they take longest.
        seeds = [*range(FIRST_OF_SECONDS, FIRST_OF_SECONDS + SECONDS_WORLDS), *range(WORLDS)]
    else:
        seeds = [FIRST_OF_SECONDS, *range(seed, seed + sample)]
    kept = load_kept() if is_whole else {}
    for each in seeds:
        if str(each) not in kept:
            kept[str(each)] = live(each, not is_whole, schema)
            print(format_world(each, kept[str(each)]), file=sys.stderr, flush=True)
            if is_whole:
                save_kept(kept)
    worlds = {each: kept[str(each)] for each in sorted(seeds)}
    return format_result(worlds), not any(world["found"] for world in worlds.values())


def format_result(worlds: dict[int, dict[str, Any]]) -> str:
    """Return what all *worlds*, by seed, came to, as a page."""
    is_of_seconds = {each: each >= FIRST_OF_SECONDS for each in worlds}
    years = sum(world["years"] for each, world in worlds.items() if not is_of_seconds[each])
    days = 365 * sum(world["years"] for each, world in worlds.items() if is_of_seconds[each])
    counts: Counter[str] = Counter()
    for world in worlds.values():
        counts.update(world["counts"])
    wrong = sum(bool(world["found"]) for world in worlds.values())
    happened = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return "\n".join(
        [
            HEAD,
            *(format_world(each, world) for each, world in worlds.items()),
            f"\n{years:.1f} instance-years, and {days:.2f} instance-days with a poll every second. "
            f"{wrong} of {len(worlds)} worlds differed from the truth.\n\n"
            f"What happened: {happened}.\n",
        ]
    )


def format_world(seed: int, world: dict[str, Any]) -> str:
    """Return what the world of *seed* came to, as a line."""
    said = "; ".join(world["found"]) or "0 µs, 0 micro-units of difference"
    years = world["years"]
    lived = f"{years:.3f} instance-years"
    if seed >= FIRST_OF_SECONDS:
        lived = f"{years * 365:.3f} instance-days, {world['polls']:,} polls"
    return f"- seed {seed}: {lived}: {said}"


def live(seed: int, is_quick: bool, schema: bytes) -> dict[str, Any]:
    """Live through the world of *seed*; return how long it was, what differed, what happened."""
    start = time.monotonic()
    folder_in = SHM if SHM.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="nightingale-soak-", dir=folder_in) as folder:
        file = Path(folder, "soak.sqlite")
        file.write_bytes(schema)
        database = Database(f"sqlite:///{file}")
        try:
            if seed >= FIRST_OF_SECONDS:
                servers, days = (2, 0.02) if is_quick else (10, 0.1)
                world = simulate(
                    database, seed, servers, days, Path(folder), PACE_OF_SECONDS, every_second=True
                )
            else:
                days = 200 if is_quick else DAYS
                world = simulate(database, seed, SERVERS, days, Path(folder), PACES[seed > 1])
            found = world.differences()
        finally:
            database.dispose()
    counts = dict(world.counts)
    return {
        "years": world.years(),
        "found": found[:20],
        "polls": counts.pop("polls", 0),
        "counts": counts,
        "took_s": round(time.monotonic() - start),
    }


def load_kept() -> dict[str, Any]:
    """Return the worlds that this very code has lived through already."""
    if not KEPT.exists():
        return {}
    kept = json.loads(KEPT.read_text())
    return dict(kept["worlds"]) if kept["code"] == digest_code() else {}


def save_kept(worlds: dict[str, Any]) -> None:
    """Keep *worlds*, so that a later run goes on from here."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    new = KEPT.with_suffix(".new")
    new.write_text(json.dumps({"code": digest_code(), "worlds": worlds}))
    new.replace(KEPT)


def digest_code() -> str:
    """Return a digest of all that measures, bills or simulates."""
    files = [
        file
        for each in CODE
        for file in ([ROOT / each] if each.endswith(".py") else (ROOT / each).rglob("*.py"))
    ]
    lines = [f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def make_schema() -> bytes:
    """Return the bytes of a database that has the schema and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "schema.sqlite")
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        database.dispose()
        return file.read_bytes()
