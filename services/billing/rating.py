"""From a span of time to an amount of money: integers only, one rounding per line."""

US_PER_S = 1_000_000
# nano-USD per hour times seconds, over this, are micro-USD.
NANO_HOURS_PER_MICRO = 3_600 * 1_000


def count_seconds(start_us: int, end_us: int) -> int:
    """Return the seconds of [start, end), a begun one whole."""
    assert end_us >= start_us, (start_us, end_us)
    return -(-(end_us - start_us) // US_PER_S)


def rate(seconds: int, nano_usd_per_hour: int) -> int:
    """Return what *seconds* cost, in micro-USD, rounded half to even."""
    assert seconds >= 0 and nano_usd_per_hour >= 0
    amount, rest = divmod(seconds * nano_usd_per_hour, NANO_HOURS_PER_MICRO)
    is_above_half = 2 * rest > NANO_HOURS_PER_MICRO
    is_half = 2 * rest == NANO_HOURS_PER_MICRO
    return amount + int(is_above_half or (is_half and amount % 2 == 1))
