"""Plays each kind of copier and months of training, seeded, and counts what the detectors say.

One case is one seed: each kind of copier once, by a copier of its own, and one user-month.
"""

import random
import time
from collections import Counter

from nightingale_hub.services.audit.detect.detector import Detector
from tests.scenarios import COPIERS, Scenario, month_of_training, play

SEEDS = 60
LEAST_SHARE = 0.95
NEVER_MISSED = "H1"
MOST_FALSE_ALERTS = 1


def run(sample: int | None, seed: int) -> tuple[str, bool]:
    """Play *sample* seeds, by default 60; return the table and whether every bar is met."""
    count = sample or SEEDS
    seeds = random.Random(seed).sample(range(10**6), count)
    started = time.perf_counter()
    lines = [
        "# Detectors over seeded copiers and months of training",
        "",
        f"`bin/soak detectors`, {count} seeds drawn by {seed}. A copier counts as found when the "
        "rule that is there for it names each of its people and nobody else.",
        "",
        "| Copier | Rule | Found | Needed |",
        "|---|---|---|---|",
    ]
    is_well = True
    for name, (make, rule) in COPIERS.items():
        found = sum(_is_found(make(each), rule) for each in seeds)
        needed = 1.0 if rule == NEVER_MISSED else LEAST_SHARE
        is_well = is_well and found >= needed * count
        lines.append(f"| {name} | {rule} | {found} of {count} | {needed:.0%} |")
    alerts = Counter(_count_false(each) for each in seeds)
    is_well = is_well and max(alerts) <= MOST_FALSE_ALERTS
    lines += ["", "| False alerts in a user-month of training | Months |", "|---|---|"]
    lines += [f"| {number} | {months} of {count} |" for number, months in sorted(alerts.items())]
    took_s = time.perf_counter() - started
    lines += ["", f"{'All bars are met' if is_well else 'A bar is missed'}; {took_s:.0f} s.", ""]
    return "\n".join(lines), is_well


def _is_found(scenario: Scenario, rule: str) -> bool:
    world, sessions, outs, thieves = scenario
    found = play(Detector(world), sessions, outs)
    named = {each.owner for each in found if each.rule == rule}
    return bool(named == thieves and {each.owner for each in found} == thieves)


def _count_false(seed: int) -> int:
    world, sessions = month_of_training(seed)
    return len(play(Detector(world), sessions))
