"""What is usual for a person: a robust score of one hour against 28 days, and their hours."""

from math import log

from nightingale_hub.services.audit.detect.reader import Reader
from nightingale_hub.services.audit.detect.rules import MIN_PER_HOUR, Rules

LEAST_HOURS = 24
LEAST_MAD = 0.25
CONSISTENCY = 0.6745  # scales a median absolute deviation to a standard deviation
HOURS_PER_DAY = 24


def score_hour(reader: Reader, minute: int, amount: int) -> float:
    """Return how far *amount* bytes lie above this person's usual hour, in deviations.

    Hours in which they read nothing new do not count. Who has not read for 24 hours yet has no
    usual hour, and every amount is far above it.
    """
    hour = minute // MIN_PER_HOUR
    usual = sorted(log(1 + each) for at, each in reader.hours.items() if at < hour and each)
    if len(usual) < LEAST_HOURS:
        return float("inf")
    middle = _median(usual)
    spread = _median(sorted(abs(each - middle) for each in usual))
    return CONSISTENCY * (log(1 + amount) - middle) / max(spread, LEAST_MAD)


def is_off_pattern(reader: Reader, minute: int, rules: Rules) -> bool:
    """Tell whether they read at an hour of the day, or from a place, that is none of theirs."""
    now = minute // MIN_PER_HOUR
    earlier = {hour for hour in reader.active if hour < now - now % HOURS_PER_DAY}
    days = {hour // HOURS_PER_DAY for hour in earlier}
    if len(days) < rules.off_pattern_least_days:
        return False
    if any(since >= now - HOURS_PER_DAY for since in reader.places.values()):
        return True
    near = {(now + shift) % HOURS_PER_DAY for shift in (-1, 0, 1)}
    usual = sum(hour % HOURS_PER_DAY in near for hour in earlier)
    return usual < rules.off_pattern_hour_share * len(earlier)


def _median(values: list[float]) -> float:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
