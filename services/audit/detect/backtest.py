"""`python -m nightingale_hub.services.audit.detect.backtest SEGMENTS`: rules over stored segments.

Prints what each of them finds, as it would have been found then, and how often each rule spoke:
how a change of the rules is judged before it is made. It reads the segment files and nothing else,
so a dataset is taken to be what of it was ever read.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nightingale_hub.services.audit.detect.catalogue import Catalogue, Extent
from nightingale_hub.services.audit.detect.detector import Detector
from nightingale_hub.services.audit.detect.finding import Finding
from nightingale_hub.services.audit.detect.rules import RULES, Rules
from nightingale_hub.services.audit.event import Event, parse_lines
from nightingale_hub.services.audit.rebuild import replay
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.text import visible

TICK_US = 60_000_000
QUIET_END_TICKS = 14 * 60  # what waits for a second epoch is decided by then


class Batch(NamedTuple):
    """Events as they came."""

    stream_id: str
    received_us: int
    events: list[Event]


class SeenExtents(Catalogue):
    """Takes for a dataset what of it was ever read by anyone."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        """Read *batches* to the end."""
        sizes: dict[str, dict[str, int]] = {}
        for batch in batches:
            for event in batch.events:
                files = sizes.setdefault(event.ds, {})
                files[event.path] = max(files.get(event.path, 0), event.off + event.len)
        self._sizes = sizes

    def get_extent(self, dataset: str) -> Extent:
        """Return how many files were read, and how much of them."""
        files = self._sizes.get(dataset, {})
        return Extent(len(files), sum(files.values()))

    def find_size(self, dataset: str, path: str) -> int | None:
        """Return how far a file was read."""
        return self._sizes.get(dataset, {}).get(path)


def backtest(batches: Iterable[Batch], catalogue: Catalogue, rules: Rules) -> Iterator[Finding]:
    """Yield what *rules* find in *batches*, which come in the order in which they were received."""
    detector = Detector(catalogue, rules=rules)
    tick_us = 0
    for batch in batches:
        # A pause changes nothing but that waits end, and none is longer than this.
        tick_us = max(tick_us or batch.received_us, batch.received_us - QUIET_END_TICKS * TICK_US)
        while tick_us + TICK_US <= batch.received_us:
            tick_us += TICK_US
            yield from detector.tick(tick_us)
        yield from detector.feed(batch.events, batch.stream_id, batch.received_us)
    for _ in range(QUIET_END_TICKS):
        tick_us += TICK_US
        yield from detector.tick(tick_us)


def load_batches(directory: Path) -> Iterator[Batch]:
    """Yield the acknowledged batches in *directory*, as they were received."""
    segments = Segments(directory, epoch=0)  # to read only
    stored = [each for stream in replay(directory).values() for each in stream]
    for header, place in sorted(stored, key=lambda each: (each[0].received_us, each[1].file)):
        lines = segments.load_lines(place, header.sha256)
        yield Batch(header.stream_id, header.received_us, parse_lines(lines))


def main(arguments: list[str]) -> int:
    """Run what the command line names; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m nightingale_hub.services.audit.detect.backtest",
        description="Run the detectors' rules over stored segments.",
    )
    parser.add_argument("segments", type=Path, help="the folder of segment files")
    parser.add_argument("--version", type=int, default=max(RULES), choices=sorted(RULES))
    parser.add_argument("--json", action="store_true", help="a finding per line, for machines")
    options = parser.parse_args(arguments)
    if not options.segments.is_dir():
        print(f"{options.segments} is no folder of segment files", file=sys.stderr)
        return 2
    catalogue = SeenExtents(load_batches(options.segments))
    counted: Counter[str] = Counter()
    for found in backtest(load_batches(options.segments), catalogue, RULES[options.version]):
        counted[found.rule] += 1
        if options.json:
            print(json.dumps({"key": found.key, "severity": found.severity, "text": found.reason}))
        else:
            print(f"{found.rule} {found.severity:8} {visible(found.owner)}: {found.reason}")
    if not options.json:
        print(f"rules {options.version}: {sum(counted.values())} findings {dict(counted)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
