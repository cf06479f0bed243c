"""Money as people read it. Amounts are integers of a named unit; no float touches them."""


def format_usd(micro_usd: int) -> str:
    """Return *micro_usd* exactly, with at least two decimals: `$0.51`, `$0.000228`."""
    sign = "-" if micro_usd < 0 else ""
    dollars, micro = divmod(abs(micro_usd), 1_000_000)
    decimals = f"{micro:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${dollars:,}.{decimals}"


def format_rate(nano_usd_per_hour: int) -> str:
    """Return a rate exactly: `$0.041/h`."""
    dollars, nano = divmod(nano_usd_per_hour, 1_000_000_000)
    decimals = f"{nano:09d}".rstrip("0").ljust(2, "0")
    return f"${dollars:,}.{decimals}/h"
