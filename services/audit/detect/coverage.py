"""Which bytes of a file were read, as a union of intervals: reading twice covers once."""

from bisect import bisect_left, bisect_right

MOST_INTERVALS = 128

Intervals = list[int]  # start, end, start, end, …: sorted, disjoint, not touching


def cover(intervals: Intervals, start: int, end: int) -> int:
    """Add [start, end) to *intervals*, and return how many of its bytes are new.

    Past 128 intervals the smallest gap is closed: what is counted then is too much by that gap,
    never too little.
    """
    if start >= end:
        return 0
    if intervals and start == intervals[-1]:  # the next of a sequential read
        intervals[-1] = end
        return end - start
    left = bisect_left(intervals, start)
    right = bisect_right(intervals, end)
    # An odd position lies inside an interval, whose border stays.
    kept_left = [start] if left % 2 == 0 else []
    kept_right = [end] if right % 2 == 0 else []
    low = start if kept_left else intervals[left - 1]
    high = end if kept_right else intervals[right]
    before = sum(_length(intervals, i) for i in range(left // 2, (right + 1) // 2))
    intervals[left:right] = kept_left + kept_right
    new = (high - low) - before
    if len(intervals) > 2 * MOST_INTERVALS:
        _close_smallest_gap(intervals)
    return new


def _length(intervals: Intervals, index: int) -> int:
    return intervals[2 * index + 1] - intervals[2 * index]


def _close_smallest_gap(intervals: Intervals) -> None:
    gaps = range(1, len(intervals) - 1, 2)
    at = min(gaps, key=lambda i: intervals[i + 1] - intervals[i])
    del intervals[at : at + 2]
