"""Counts by minute of event time: whatever order events arrive in, a window's sum is the same."""

Minutes = dict[int, int]


def add(counts: Minutes, minute: int, amount: int) -> None:
    """Add *amount* to *minute*."""
    counts[minute] = counts.get(minute, 0) + amount


def total(counts: Minutes, first: int, last: int) -> int:
    """Return the sum of the minutes from *first* to *last*, both included."""
    if last - first < len(counts):
        get = counts.get
        return sum(get(minute, 0) for minute in range(first, last + 1))
    return sum(amount for minute, amount in counts.items() if first <= minute <= last)


def newest(counts: Minutes, first: int, last: int) -> int | None:
    """Return the latest minute from *first* to *last* that holds anything, or None."""
    found = [minute for minute, amount in counts.items() if amount and first <= minute <= last]
    return max(found, default=None)


def oldest(counts: Minutes, first: int, last: int) -> int | None:
    """Return the earliest minute from *first* to *last* that holds anything, or None."""
    found = [minute for minute, amount in counts.items() if amount and first <= minute <= last]
    return min(found, default=None)


def forget(counts: Minutes, before: int) -> None:
    """Drop what is older than *before*."""
    for minute in [each for each in counts if each < before]:
        del counts[minute]
