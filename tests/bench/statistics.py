"""Medians and how far to trust them, with no assumption about how the noise is shaped."""

import random
from collections.abc import Sequence
from statistics import median

RESAMPLES = 2000


def bootstrap_interval(
    samples: Sequence[float], confidence: float = 0.95, seed: int = 1
) -> tuple[float, float]:
    """Return the interval that holds the true median with *confidence*, by resampling.

    The same samples always give the same interval.
    """
    if not samples:
        raise ValueError("no samples, so no interval")
    rng = random.Random(seed)
    medians = sorted(median(rng.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    cut = round((1 - confidence) / 2 * RESAMPLES)
    return medians[cut], medians[RESAMPLES - 1 - cut]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return above/below pair by pair: what slowed a whole repetition falls out of its ratio."""
    return [a / b for a, b in zip(above, below, strict=True)]
