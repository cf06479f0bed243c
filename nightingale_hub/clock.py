"""The one clock: aware UTC as integer microseconds.

Time is passed in; only the outermost line of a loop or a request reads it here.
"""

import time
from datetime import UTC, datetime

US_PER_S = 1_000_000


def now_us() -> int:
    """Return the wall clock in µs since the epoch, UTC."""
    return time.time_ns() // 1000


def to_datetime(at_us: int) -> datetime:
    """Return *at_us* as an aware UTC datetime."""
    return datetime.fromtimestamp(at_us // US_PER_S, UTC).replace(microsecond=at_us % US_PER_S)


def format_time(at_us: int) -> str:
    """Return *at_us* as `2026-11-23 21:14:10 UTC`, cut to the second."""
    return to_datetime(at_us).strftime("%Y-%m-%d %H:%M:%S UTC")


def month_bounds_us(month: str) -> tuple[int, int]:
    """Return the half-open [start, end) of *month* (`2026-11`) in µs.

    Raises `ValueError` when *month* is not a year and a month.
    """
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    year, following = divmod(start.year * 12 + start.month, 12)
    end = start.replace(year=year, month=following + 1)
    return int(start.timestamp()) * US_PER_S, int(end.timestamp()) * US_PER_S


def day_start_us(day: str) -> int:
    """Return when *day* (`2026-11-25`) begins in UTC; raises `ValueError` when it is none."""
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * US_PER_S


def format_duration(seconds: int) -> str:
    """Return whole *seconds* as a person reads them: `9 s`, `4 min 10 s`, `1 h 13 min`."""
    minutes, rest_s = divmod(seconds, 60)
    hours, rest_min = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {rest_min} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"
