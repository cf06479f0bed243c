"""What every benchmark is made of: paired arms, figures with targets, and a report that judges.

A figure's value is a median and its spread a 95 % interval of it. Each repetition runs every arm
once, in an order drawn anew. A report fails when a figure misses its target, when anything went
wrong, or when an event that should be in a log is not.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.statistics import bootstrap_interval

Arm = Callable[[], float]  # does the work once and returns its seconds


@dataclass(frozen=True)
class Figure:
    """One number, its spread and what it must be; without a limit it is only told."""

    name: str
    unit: str
    samples: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median of the samples."""
        return median(self.samples)

    @property
    def is_met(self) -> bool:
        """Whether the value lies within the limits."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    @property
    def target(self) -> str:
        """The limits in words; empty when there are none."""
        words = []
        if self.at_least is not None:
            words.append(f">= {self.at_least:g}")
        if self.at_most is not None:
            words.append(f"<= {self.at_most:g}")
        return ", ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Return it fit for JSON, with its spread and whether it is met."""
        low, high = bootstrap_interval(self.samples)
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "low": low,
            "high": high,
            "samples": len(self.samples),
            "at_least": self.at_least,
            "at_most": self.at_most,
            "met": self.is_met,
        }


@dataclass
class Report:
    """What one benchmark found."""

    bench: str
    figures: list[Figure] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    events: int = 0
    lost_events: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every figure is met, nothing went wrong and no event is lost."""
        return not self.errors and not self.lost_events and all(f.is_met for f in self.figures)

    def to_dict(self) -> dict[str, Any]:
        """Return it fit for JSON."""
        return {
            "bench": self.bench,
            "passed": self.passed,
            "figures": [figure.to_dict() for figure in self.figures],
            "errors": self.errors,
            "events": self.events,
            "lost_events": self.lost_events,
            "notes": self.notes,
        }


def run_paired(
    arms: Mapping[str, Arm], repetitions: int, rng: random.Random
) -> dict[str, list[float]]:
    """Run each arm once to warm up, then *repetitions* times, all of them in each repetition."""
    for arm in arms.values():
        arm()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(repetitions):
        for name in rng.sample(sorted(arms), k=len(arms)):
            seconds[name].append(arms[name]())
    return seconds


def format_report(report: Report) -> str:
    """Return *report* as a table for a person."""
    width = max([len(figure.name) for figure in report.figures], default=0)
    lines = [f"{report.bench}: {'passed' if report.passed else 'FAILED'}"]
    for figure in report.figures:
        low, high = bootstrap_interval(figure.samples)
        judged = f"{figure.target:>14}  {'ok' if figure.is_met else 'MISSED'}"
        lines.append(
            f"  {figure.name:<{width}}  {figure.value:8.3f} {figure.unit:<6}"
            f" [{low:.3f}, {high:.3f}]{judged if figure.target else ''}"
        )
    lines.append(
        f"  errors {len(report.errors)}, events {report.events}, lost {report.lost_events}"
    )
    lines += [f"  error: {error}" for error in report.errors]
    lines += [f"  {note}" for note in report.notes]
    return "\n".join(lines)
