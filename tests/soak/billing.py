"""1,000 instance-years, and 10 instance-days with a poll every second, against the truth.

In the years a poll is made around each event and some in between; the others would change
nothing. The database is in memory, for what is held against the truth is not the disk.
"""

import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from nightingale_hub.database import Database
from tests.simulation import simulate

SERVERS = 12
DAYS = 1300  # so that 25 worlds live more than 1,000 instance-years
WORLDS = 25
PACES = (80, 400)  # how much slower than at 1: of the first two worlds, of the others
SECONDS_SEED = 1000  # of the world with a poll every second: 10 servers for a day
SHM = Path("/dev/shm")
HEAD = """# Metering and billing against the truth

`bin/soak billing`: each world lives through reboots, resizes, crashes, faults, price changes, late,
lost and doubled beats, a clock that is set, and kills around any commit. Then every microsecond
that was measured and every micro-unit that is owed is compared with the truth, and every line is
worked out again.
"""


def run(sample: int | None, seed: int) -> tuple[str, bool]:
    """Live through all worlds, or *sample* small ones from *seed* on; return what was found."""
    logging.getLogger("nightingale").setLevel(logging.CRITICAL)
    schema = make_schema()
    seeds = range(WORLDS) if sample is None else range(seed, seed + sample)
    years, days, wrong = 0.0, 0.0, 0
    counts: Counter[str] = Counter()
    lines = [HEAD]
    for each in [*seeds, SECONDS_SEED]:
        world, found, took_s = live(each, sample is not None, schema)
        counts.update(world.counts)
        wrong += bool(found)
        years += 0 if each == SECONDS_SEED else world.years()
        days += world.years() * 365 if each == SECONDS_SEED else 0
        said = "; ".join(found[:20]) or "0 µs, 0 micro-units of difference"
        lines.append(f"- seed {each}: {world.years():.3f} instance-years: {said}")
        print(f"{lines[-1]} ({took_s:.0f} s)", file=sys.stderr, flush=True)
    lines.append(format_sum(years, days, wrong, len(seeds) + 1, counts))
    return "\n".join(lines), not wrong


def format_sum(years: float, days: float, wrong: int, worlds: int, counts: Counter[str]) -> str:
    """Return what all worlds came to."""
    happened = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return (
        f"\n{years:.1f} instance-years, and {days:.2f} instance-days with a poll every second. "
        f"{wrong} of {worlds} worlds differed from the truth.\n\nWhat happened: {happened}.\n"
    )


def make_schema():
    """Return the bytes of a database that has the schema and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "schema.sqlite")
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        database.dispose()
        return file.read_bytes()


def live(seed, quick, schema):
    start = time.monotonic()
    folder_in = SHM if SHM.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="nightingale-soak-", dir=folder_in) as folder:
        file = Path(folder, "soak.sqlite")
        file.write_bytes(schema)
        database = Database(f"sqlite:///{file}")
        try:
            if seed == SECONDS_SEED:
                servers, days = (2, 0.05) if quick else (10, 1.1)
                world = simulate(
                    database, seed, servers, days, Path(folder), pace=1, every_second=True
                )
            else:
                days = 200 if quick else DAYS
                world = simulate(database, seed, SERVERS, days, Path(folder), PACES[seed > 1])
            return world, world.differences(), time.monotonic() - start
        finally:
            database.dispose()
