"""How long money lasts: the arithmetic of holds. Pure: no database, no clock.

Everything rounds against the spender: a hold is dearer than its time, never cheaper, so what is
posted never passes what was held.
"""

NANO_HOURS_PER_MICRO = 3_600 * 1_000

STOP_P99_S = 60  # from the asking of a stop to its acceptance, in 99 of 100
LAUNCH_S = 600  # what a launch is held for, beside its plan's minimum
EXTEND_EVERY_S = 300
GRACE_S = 900  # from the warning to the stop
# So much is held ahead that a refused extension still leaves the grace.
AHEAD_S = GRACE_S + EXTEND_EVERY_S + STOP_P99_S
# A line rounds up by half a micro-unit at most: so much for the lines of an instance.
SLACK_MICRO = 100
DEGRADED_S = 3600  # what is kept back for a small size, where the budget degrades


def price_of(seconds: int, nano_per_hour: int) -> int:
    """Return what *seconds* cost at most, in micro-units: rounded up."""
    assert seconds >= 0 and nano_per_hour >= 0
    return -(-seconds * nano_per_hour // NANO_HOURS_PER_MICRO)


def seconds_for(micro: int, nano_per_hour: int, most: int) -> int:
    """Return how many seconds *micro* pays for, at most *most*; none for less than nothing."""
    if micro < 0:
        return 0
    if nano_per_hour == 0:
        return most
    return min(most, micro * NANO_HOURS_PER_MICRO // nano_per_hour)


def launch_seconds(minimum_s: int) -> int:
    """Return for how long a launch is held."""
    return minimum_s + LAUNCH_S + STOP_P99_S
