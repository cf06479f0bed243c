"""Reading as copiers and as researchers do it, seeded: the events that a mount would record.

Each session yields the events of its files in order of time; `play` feeds a detector with them,
a minute at a time, and lets the clock run on afterwards, as it does for a copier who is done.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from nightingale_hub.services.audit.detect.catalogue import Catalogue, Extent
from nightingale_hub.services.audit.detect.detector import Detector
from nightingale_hub.services.audit.detect.finding import Finding
from nightingale_hub.services.audit.event import Event

S = 1_000_000
MIN = 60 * S
HOUR = 60 * MIN
DAY = 24 * HOUR
START = 1_795_046_400 * S  # a Thursday, 00:00 UTC
PYTHON = "/opt/conda/bin/python3.11"
PIECE = 1 << 20

Events = Iterable[Event]


@dataclass
class World(Catalogue):
    """One dataset of files in folders, and who sees which honeyfiles in it."""

    rng: random.Random
    count: int = 400
    mean_bytes: int = 512 << 10
    name: str = "ct"
    sizes: dict[str, int] = field(default_factory=dict)
    decoys: set[tuple[str, str]] = field(default_factory=set)
    probes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for number in range(self.count):
            path = f"patient_{number // 20:04d}/slice_{number % 20:04d}.dcm"
            self.sizes[path] = int(self.mean_bytes * self.rng.uniform(0.5, 1.5))

    @property
    def paths(self) -> list[str]:
        return sorted(self.sizes)

    def plant(self, owner: str) -> str:
        path = f"patient_{self.rng.randrange(self.count // 20):04d}/slice_0020.dcm"
        self.decoys.add((owner, path))
        return path

    def get_extent(self, dataset: str) -> Extent:
        return Extent(len(self.sizes), sum(self.sizes.values()))

    def find_size(self, dataset: str, path: str) -> int | None:
        return self.sizes.get(path)

    def is_decoy(self, owner: str, dataset: str, path: str) -> bool:
        return (owner, path) in self.decoys

    def is_probe(self, owner: str, dataset: str, path: str) -> bool:
        return path in self.probes


@dataclass
class Person:
    """Who reads, at which pace, with which program."""

    world: World
    name: str
    rng: random.Random
    exe: str = PYTHON
    piece: int = PIECE
    seq: int = 0

    def read(self, path: str, at_us: int, pid: int = 100, most: int | None = None) -> list[Event]:
        """The whole of a file, or its first *most* bytes; then the read that finds its end."""
        size = self.world.sizes.get(path, self.world.mean_bytes)
        size = size if most is None else min(size, most)
        events = [self._event("open", path, at_us, pid)]
        for offset in range(0, size, self.piece):
            at_us += 300
            length = min(self.piece, size - offset)
            events.append(self._event("read", path, at_us, pid, offset, length))
        if most is None:
            events.append(self._event("read", path, at_us + 50, pid, size, 0))
        events.append(self._event("release", path, at_us + 100, pid))
        return events

    def run(
        self,
        paths: Sequence[str],
        at_us: int,
        per_s: float,
        workers: int = 1,
        most: int | None = None,
    ) -> Iterator[Event]:
        """*paths* one after another, dealt out to *workers*, *per_s* of them in a second."""
        for number, path in enumerate(paths):
            start = at_us + int((number + self.rng.random() * 0.5) / per_s * S)
            yield from self.read(path, start, 100 + number % workers, most)

    def _event(
        self, act: str, path: str, at_us: int, pid: int, offset: int = 0, length: int = 0
    ) -> Event:
        self.seq += 1
        return Event(
            v=1, seq=self.seq, ts=at_us, act=act, user=self.name, uid=1000, pid=pid, ppid=1,  # type: ignore[arg-type]  # the acts above
            exe=self.exe, ds=self.world.name, path=path, fid=1, ino=1, off=offset, len=length,
            dur=40, flags=0, rc=0, pol="strict",
        )  # fmt: skip


def end_of(paths: Sequence[str], at_us: int, per_s: float) -> int:
    return at_us + int(len(paths) / per_s * S)


def play(
    detector: Detector,
    sessions: Iterable[Events],
    outs: Sequence[tuple[str, int, int]] = (),
    idle_us: int = 14 * HOUR,
) -> list[Finding]:
    """Feed *sessions* at once, minute by minute, and *outs* (owner, at, bytes); return findings."""
    found: list[Finding] = []
    minute: list[Event] = []
    waiting = sorted(outs, key=lambda each: each[1])
    end_us = 0

    def tick(at_us: int) -> None:
        nonlocal minute
        if minute:
            found.extend(detector.feed(minute, "i-1:b-1", at_us))
            minute = []
        while waiting and waiting[0][1] <= at_us:
            owner, when, size = waiting.pop(0)
            detector.note_out(owner, when, size)
        found.extend(detector.tick(at_us))

    for event in heapq.merge(*sessions, key=lambda each: each.ts):
        if not end_us:
            end_us = event.ts + MIN
        while event.ts >= end_us:
            # Nothing changes in a long pause but that waits end.
            step = MIN if minute or event.ts - end_us < 20 * MIN else 10 * MIN
            tick(end_us)
            end_us += step
        minute.append(event)
    for at_us in range(end_us, end_us + idle_us, 10 * MIN):
        tick(at_us)
    return found


# Copiers. Each returns what is to be played, and who is to be found.

Scenario = tuple[World, list[Events], list[tuple[str, int, int]], set[str]]


def copy_all(seed: int) -> Scenario:
    world, thief = _thief(seed)
    return world, [thief.run(world.paths, START, thief.rng.uniform(5, 60))], [], {"mallory"}


def with_tar(seed: int) -> Scenario:
    world, thief = _thief(seed)
    thief.exe = "/usr/bin/tar"
    return world, [thief.run(world.paths, START, thief.rng.uniform(5, 60))], [], {"mallory"}


def shuffled(seed: int) -> Scenario:
    world, thief = _thief(seed)
    paths = thief.rng.sample(world.paths, len(world.paths))
    per_s = thief.rng.uniform(0.05, 30)
    run = thief.run(paths, START, per_s, workers=thief.rng.randint(1, 8))
    return world, [run], [], {"mallory"}


def one_percent_a_day(seed: int) -> Scenario:
    world, thief = _thief(seed)
    paths = thief.rng.sample(world.paths, len(world.paths))
    each = max(1, len(paths) // 100)
    days = [
        thief.run(
            paths[day * each : day * each + each],
            START + day * DAY + thief.rng.randrange(DAY // 2),
            2,
        )
        for day in range(20)
    ]
    return world, list(days), [], {"mallory"}


def split_over_two(seed: int) -> Scenario:
    world, thief = _thief(seed)
    other = Person(world, "eve", random.Random(seed + 1))
    paths = thief.rng.sample(world.paths, len(world.paths))
    cut = int(len(paths) * thief.rng.uniform(0.42, 0.58))
    later = thief.rng.randrange(6 * HOUR)
    runs = [
        thief.run(paths[:cut], START, thief.rng.uniform(1, 30)),
        other.run(paths[cut:], START + later, thief.rng.uniform(1, 30)),
    ]
    return world, list(runs), [], {"mallory", "eve"}


def honeyfile(seed: int) -> Scenario:
    world, thief = _thief(seed)
    paths = thief.rng.sample(world.paths, 3)
    paths.insert(thief.rng.randrange(4), world.plant("mallory"))
    return world, [thief.run(paths, START, 1)], [], {"mallory"}


def bulk_of_a_part(seed: int) -> Scenario:
    rng = random.Random(seed)
    world = World(rng, count=300, mean_bytes=640 << 20)
    thief = Person(world, "mallory", rng, piece=64 << 20)
    paths = rng.sample(world.paths, int(300 * rng.uniform(0.3, 0.5)))
    return world, [thief.run(paths, START, 0.02)], [], {"mallory"}


def fan_out(seed: int) -> Scenario:
    world, thief = _thief(seed)
    paths = thief.rng.sample(world.paths, thief.rng.randint(60, 150))
    return world, [thief.run(paths, START, 10, most=4096)], [], {"mallory"}


def copy_out(seed: int) -> Scenario:
    rng = random.Random(seed)
    world = World(rng, mean_bytes=1 << 20)
    thief = Person(world, "mallory", rng)
    paths = thief.rng.sample(world.paths, 200)
    read = sum(world.sizes[path] for path in paths)
    outs = [("mallory", START + 3 * MIN, int(read * thief.rng.uniform(0.6, 1)))]
    return world, [thief.run(paths, START, 2)], outs, {"mallory"}


def tool_at_night(seed: int) -> Scenario:
    world, thief = _thief(seed)
    few = thief.rng.sample(world.paths, 12)
    days: list[Events] = [
        thief.run(few * 3, START + day * DAY + 10 * HOUR, 0.02) for day in range(14)
    ]
    night = Person(world, "mallory", thief.rng, exe="/usr/bin/rsync")
    paths = thief.rng.sample(world.paths, thief.rng.randint(55, 95))
    return world, [*days, night.run(paths, START + 14 * DAY + 3 * HOUR, 1)], [], {"mallory"}


# Each with the rule that is there for it.
COPIERS: dict[str, tuple[Callable[[int], Scenario], str]] = {
    each.__name__: (each, rule)
    for each, rule in (
        (copy_all, "R3"),
        (with_tar, "R5"),
        (shuffled, "R3"),
        (one_percent_a_day, "R4"),
        (split_over_two, "R3"),
        (honeyfile, "H1"),
        (bulk_of_a_part, "R1"),
        (fan_out, "R2"),
        (copy_out, "R6"),
        (tool_at_night, "R5"),
    )
}


def _thief(seed: int) -> tuple[World, Person]:
    rng = random.Random(seed)
    world = World(rng, count=rng.choice((200, 300, 400)), mean_bytes=rng.choice((64, 256)) << 10)
    return world, Person(world, "mallory", rng)


# Researchers: the loaders that are in use, over several epochs.


def epochs(person: Person, at_us: int, count: int, loader: str) -> tuple[list[Events], int]:
    """*count* epochs of *loader* from *at_us* on; return them and when they end."""
    rng, paths = person.rng, person.world.paths
    split = int(len(paths) * 0.85)
    train, validation = paths[:split], paths[split:]
    per_s, workers = rng.uniform(0.5, 20), rng.choice((1, 2, 4, 8))
    parts: list[Events] = []
    if loader == "headers_first":
        parts.append(person.run(paths, at_us, 30, most=4096))
        at_us = end_of(paths, at_us, 30) + rng.randrange(2 * MIN)
    for number in range(count):
        if loader == "in_order":
            order = list(train)
        elif loader == "weighted":
            order = rng.choices(train, k=len(train))
        elif loader == "folds":
            fold = number % 5
            order = [p for i, p in enumerate(paths) if i % 5 != fold]
            rng.shuffle(order)
            validation = [p for i, p in enumerate(paths) if i % 5 == fold]
        else:
            order = rng.sample(train, len(train))
        if loader == "crash" and number == 1:
            order = order[: int(len(order) * rng.uniform(0.6, 0.9))]
            at_us += rng.randrange(5 * MIN)
        parts.append(person.run(order, at_us, per_s, workers))
        at_us = end_of(order, at_us, per_s)
        parts.append(person.run(validation, at_us, per_s * 2, workers))
        at_us = end_of(validation, at_us, per_s * 2) + rng.randrange(MIN)
    return parts, at_us


LOADERS = ("shuffled", "in_order", "weighted", "folds", "headers_first", "crash")


def month_of_training(seed: int) -> tuple[World, list[Events]]:
    """Twenty days of one researcher: they look at files and train with several loaders."""
    rng = random.Random(seed)
    world = World(rng, count=rng.choice((60, 120, 240)), mean_bytes=128 << 10)
    person = Person(world, "alice", rng)
    parts: list[Events] = []
    for day in range(28):
        if day % 7 >= 5:
            continue
        at_us = START + day * DAY + 8 * HOUR + rng.randrange(2 * HOUR)
        looked = rng.sample(world.paths, rng.randint(2, 12))
        parts.append(person.run(looked, at_us, 0.05))
        if rng.random() < 0.6:
            more, _ = epochs(person, at_us + HOUR, rng.randint(3, 8), rng.choice(LOADERS))
            parts += more
    return world, parts
