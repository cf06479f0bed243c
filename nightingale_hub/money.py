"""Money as people read it. Amounts are integers of a named unit; no float touches them."""

# Decimals of the smallest unit that is paid in. ref: https://www.iso.org/iso-4217-currency-codes.html
DECIMALS = {
    "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2,
    "HKD": 2, "HUF": 2, "ILS": 2, "INR": 2, "JPY": 0, "KRW": 0, "MXN": 2, "NOK": 2, "NZD": 2,
    "PLN": 2, "RON": 2, "SEK": 2, "SGD": 2, "TRY": 2, "TWD": 2, "USD": 2, "ZAR": 2,
}  # fmt: skip


def divide(amount: int, by: int) -> int:
    """Return *amount* / *by*, rounded half to even; *by* is positive."""
    whole, rest = divmod(amount, by)
    return whole + int(2 * rest > by or (2 * rest == by and whole % 2 == 1))


def format_usd(micro_usd: int) -> str:
    """Return *micro_usd* exactly, with at least two decimals: `$0.51`, `$0.000228`."""
    sign = "-" if micro_usd < 0 else ""
    dollars, micro = divmod(abs(micro_usd), 1_000_000)
    decimals = f"{micro:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${dollars:,}.{decimals}"


def format_rate(nano_per_hour: int, currency: str = "USD") -> str:
    """Return a rate exactly: `$0.041/h`, `0.041 EUR/h`."""
    whole, nano = divmod(nano_per_hour, 1_000_000_000)
    decimals = f"{nano:09d}".rstrip("0").ljust(2, "0")
    if currency == "USD":
        return f"${whole:,}.{decimals}/h"
    return f"{whole:,}.{decimals} {currency}/h"


def format_money(micro: int, currency: str) -> str:
    """Return *micro* exactly, with the currency's own decimals at least: `0.51 EUR`, `$0.51`."""
    if currency == "USD":
        return format_usd(micro)
    places = DECIMALS.get(currency, 2)
    sign = "-" if micro < 0 else ""
    whole, rest = divmod(abs(micro), 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(places, "0")
    return f"{sign}{whole:,}{'.' if decimals else ''}{decimals} {currency}"


def round_to_minor(amounts: list[int], currency: str) -> list[int]:
    """Return *amounts* (micro) in smallest units, which sum to the rounded sum of *amounts*.

    By largest remainder: no line is more than one smallest unit off.
    """
    unit = 10 ** (6 - DECIMALS[currency])
    whole, rest = divmod(sum(amounts), unit)
    total = whole + int(2 * rest > unit or (2 * rest == unit and whole % 2 == 1))
    floors = [amount // unit for amount in amounts]
    by_remainder = sorted(range(len(amounts)), key=lambda i: (-(amounts[i] % unit), i))
    for index in by_remainder[: total - sum(floors)]:
        floors[index] += 1
    return floors


def format_minor(minor: int, currency: str) -> str:
    """Return *minor*, an amount in smallest units, with exactly the currency's decimals."""
    places = DECIMALS[currency]
    sign = "-" if minor < 0 else ""
    whole, rest = divmod(abs(minor), 10**places)
    return f"{sign}{whole:,}{f'.{rest:0{places}d}' if places else ''} {currency}"
