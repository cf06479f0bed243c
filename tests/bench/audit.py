"""What recording every read costs: the audit mount by each policy, beside its peers and without.

Each workload is run on the directory itself, twice (the second is the control: what differs there
is noise), through the audit mount by policy, and through peers that record nothing. What the log
holds is counted against what its readers got.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.audit_mount import AuditMount, read_events
from tests.bench import training
from tests.bench.frame import Arm, Figure, Report, run_paired
from tests.bench.peers import PEERS
from tests.bench.statistics import ratios
from tests.bench.workloads import PAGE_BYTES, Reader, write_files

FILE_BYTES = 64 << 20
FILES = 20_000
ENTRIES = 100_000
RANDOM_READS = 1000
FILES_AT_ONCE = 1000  # of all, drawn anew in each repetition
ATTEMPTS = 3
NOISE = 0.03  # the control may differ this much; a run that is noisier proves nothing
POLICIES = ("strict", "ranges", "opens")
PATIENCE_S = 86_400  # nothing is shipped here, and the gate would close by itself

Work = Callable[[Reader], float]
Floors = Mapping[str, float]

WORKS: dict[str, tuple[Work, Floors]] = {
    "sequential": (
        lambda reader: reader.read_on("image.bin", FILE_BYTES),
        {"strict": 0.38, "ranges": 0.9, "opens": 0.95},
    ),
    "mmap": (lambda reader: reader.map("image.bin", FILE_BYTES), {"ranges": 0.9, "opens": 0.95}),
    "4 KiB random": (
        lambda reader: reader.read_at_random("image.bin", FILE_BYTES, RANDOM_READS),
        {"strict": 0.04, "ranges": 0.5, "opens": 0.8},
    ),
    "small files, 1 reader": (
        lambda reader: reader.read_files("small", FILES, FILES_AT_ONCE, 1),
        {"opens": 0.15},
    ),
    "small files, 4 readers": (
        lambda reader: reader.read_files("small", FILES, FILES_AT_ONCE, 4),
        {"opens": 0.2},
    ),
    "stat": (lambda reader: reader.stat("small", FILES_AT_ONCE), {"opens": 0.75}),
}
# Which peers each policy is held against: by direct_io, as `strict`, or by a cache of their own.
AGAINST = {
    "sequential": ("strict", True),
    "4 KiB random": ("strict", True),
    "small files, 1 reader": ("opens", False),
    "small files, 4 readers": ("opens", False),
}
# What the audit itself may cost, beside the same mount that records nothing.
COSTS = {"sequential": "strict", "4 KiB random": "strict", "small files, 1 reader": "opens"}


def run(quick: bool) -> Report:
    """Measure all of it, and an epoch of training."""
    report = Report("audit")
    repetitions = 6 if quick else 20
    with tempfile.TemporaryDirectory(prefix="nightingale-bench-") as folder:
        place = Path(folder)
        make_data(place / "data", seed=1)
        for name in WORKS:
            _run_until_quiet(report, place, name, repetitions)
        _scan(report, place, 3 if quick else 7)
        if not quick:
            report.figures += training.measure(report, place)
    report.notes.append(f"{os.cpu_count()} processors")
    return report


def _run_until_quiet(report: Report, place: Path, name: str, repetitions: int) -> None:
    """Run one workload; once more when its control says that the machine was too noisy."""
    for attempt in range(ATTEMPTS):
        under = place / f"{name}-{attempt}".replace(" ", "-")
        control, *figures = _run_work(report, under, place / "data", name, repetitions)
        if control.is_met:
            break
    else:
        report.notes.append(f"noisy: the control of {name} differs, so it proves nothing")
    report.figures += [control, *figures]


def make_data(data: Path, seed: int) -> None:
    """Write one large file, many small ones, and a directory of many entries into *data*."""
    rng = random.Random(seed)
    data.mkdir()
    (data / "image.bin").write_bytes(rng.randbytes(FILE_BYTES))
    content = rng.randbytes(PAGE_BYTES)
    for _ in write_files(data / "small", FILES, lambda _: content):
        pass
    for _ in write_files(data / "many", ENTRIES, lambda _: b""):
        pass


def _run_work(
    report: Report, place: Path, data: Path, name: str, repetitions: int
) -> Iterable[Figure]:
    """Run one workload on every arm that it has, each mounted for it anew."""
    work, floors = WORKS[name]
    place.mkdir()
    with ExitStack() as stack:
        tops = {"raw": data, "control": data}
        mounts: dict[str, AuditMount] = {}
        for policy in [policy for policy in POLICIES if policy in floors]:
            mounts[policy] = mount(stack, place / policy, data, policy)
            tops[policy] = mounts[policy].top
        if name in COSTS:
            command = [sys.executable, "-m", "tests.bench.unaudited"]
            tops["off"] = mount(stack, place / "off", data, COSTS[name], command).top
        for peer in PEERS if name in AGAINST else ():
            try:
                made = PEERS[peer](data, place, is_direct=AGAINST[name][1])
                tops[peer] = stack.enter_context(made)
            except (OSError, subprocess.CalledProcessError) as error:
                report.errors.append(f"{name}: no {peer} to compare with: {error}")
        readers = {arm: Reader(top, seed=1) for arm, top in tops.items()}
        arms: dict[str, Arm] = {arm: _bind(work, reader) for arm, reader in readers.items()}
        seconds = run_paired(arms, repetitions, random.Random(len(name)))
    for policy, mounted in mounts.items():
        count_events(report, mounted.spool, policy, readers[policy])
    return _to_figures(name, floors, seconds)


def mount(
    stack: ExitStack, place: Path, data: Path, policy: str, command: list[str] | None = None
) -> AuditMount:
    """Serve *data* by *policy* until *stack* is closed, by *command* or by the product's."""
    place.mkdir()
    limits = ("refuse_opens_after_s", "refuse_reads_after_s", "stop_after_s")
    mounted = AuditMount(
        place,
        datasets=[{"name": "d", "path": str(data), "policy": policy}],
        spool_limit_bytes=8 << 30,
        guard=dict.fromkeys(limits, PATIENCE_S),
    )
    mounted.start(command)
    stack.callback(mounted.clean)
    return mounted


def _bind(work: Work, reader: Reader) -> Arm:
    return lambda: work(reader)


def _to_figures(name: str, floors: Floors, seconds: dict[str, list[float]]) -> Iterable[Figure]:
    raw = seconds["raw"]
    yield Figure(
        f"control {name}",
        "ratio",
        ratios(raw, seconds["control"]),
        at_least=1 - NOISE,
        at_most=1 + NOISE,
    )
    for policy, floor in floors.items():
        yield Figure(f"{name}: {policy}", "of raw", ratios(raw, seconds[policy]), at_least=floor)
    if "off" in seconds:
        policy = COSTS[name]
        cost = ratios(seconds["off"], seconds[policy])
        yield Figure(f"{name}: {policy}, audit on / off", "ratio", cost, at_least=0.95)
    for peer in PEERS:
        if peer in seconds:
            policy = AGAINST[name][0]
            yield Figure(f"{name}: {peer}", "of raw", ratios(raw, seconds[peer]))
            against = ratios(seconds[peer], seconds[policy])
            yield Figure(f"{name}: {policy} / {peer}", "ratio", against, at_least=1.0)


def _scan(report: Report, place: Path, repetitions: int) -> None:
    """List a large directory that a mount has never listed, and once more."""
    seconds: dict[str, list[float]] = {arm: [] for arm in ("raw", "first", "again")}
    raw = Reader(place / "data", seed=1)
    for number in range(repetitions):
        with ExitStack() as stack:
            mounted = mount(stack, place / f"scan-{number}", place / "data", "strict")
            audited = Reader(mounted.top, seed=1)
            raw.scan("many", ENTRIES)
            seconds["raw"].append(raw.scan("many", ENTRIES))
            seconds["first"].append(audited.scan("many", ENTRIES))
            seconds["again"].append(audited.scan("many", ENTRIES))
    for arm, floor in (("first", 0.12), ("again", 0.6)):
        name = f"scan of {ENTRIES:,} entries, {arm}"
        report.figures.append(
            Figure(name, "of raw", ratios(seconds["raw"], seconds[arm]), at_least=floor)
        )


def count_events(report: Report, spool: Path, policy: str, reader: Reader) -> None:
    """Hold what the log in *spool* says against what *reader* got, as *policy* promises."""
    events = read_events(spool)
    report.events += len(events)
    opened = sum(event["act"] == "open" for event in events)
    report.lost_events += abs(opened - sum(event["act"] == "release" for event in events))
    logged = sum(event["len"] for event in events if event["act"] == "read")
    got = reader.done.total()
    if policy == "strict" and logged != got:
        report.errors.append(f"read {got} bytes by {policy}, logged {logged}")
    if policy == "ranges" and logged < min(got, FILE_BYTES):
        report.errors.append(f"read {got} bytes by {policy}, logged only {logged}")
    if opened != reader.opens:
        report.errors.append(f"opened {reader.opens} files by {policy}, logged {opened}")
