"""What a request about money may say: each field parsed whole, or refused with what is wrong.

An amount is a decimal number as text: JSON's own numbers with a point are floats, and no float
is money.
"""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nightingale_hub.clock import US_PER_S, to_datetime
from nightingale_hub.errors import BadInput
from nightingale_hub.services.billing.currency import DECIMALS

MAX_TEXT_CHARS = 255
MAX_MICRO = 10**15  # a thousand million units: above it is a slip of the pen
_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/+-]{0,99}")


def check_keys(body: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `BadInput` for a field that is not *known*: a misspelt limit is no limit."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise BadInput(f"unknown field {unknown[0][:40]!r}; there is: {', '.join(sorted(known))}")


def parse_text(body: Mapping[str, Any], name: str, fallback: str | None = None) -> str:
    """Return the text *name* of *body*, in one line; raises `BadInput`."""
    value = body.get(name, fallback)
    if not isinstance(value, str) or (not value.strip() and value != fallback):
        raise BadInput(f"{name} is missing: write it as text")
    if len(value) > MAX_TEXT_CHARS or not value.isprintable():
        raise BadInput(f"{name} is one line of at most {MAX_TEXT_CHARS} printable characters")
    return value.strip()


def parse_name(body: Mapping[str, Any], name: str, fallback: str | None = None) -> str:
    """Return the name of a thing, which stands in addresses and accounts; raises `BadInput`."""
    value = parse_text(body, name, fallback)
    if value != fallback and not _NAME.fullmatch(value):
        raise BadInput(f"{name} {value[:40]!r} may have letters, digits and ._@/+- only")
    return value


def parse_choice(
    body: Mapping[str, Any], name: str, choices: Collection[str], fallback: str | None = None
) -> str:
    """Return which of *choices* the field *name* is; raises `BadInput` naming them."""
    value = body.get(name, fallback)
    if not isinstance(value, str) or value not in choices:
        raise BadInput(f"{name} {str(value)[:40]!r} is none of {', '.join(sorted(choices))}")
    return value


def parse_currency(body: Mapping[str, Any], name: str, fallback: str | None = None) -> str:
    """Return the currency in *name*; raises `BadInput` for one that no invoice here is in."""
    return parse_choice(body, name, DECIMALS, fallback)


def parse_amount(body: Mapping[str, Any], name: str) -> int:
    """Return the amount *name*, decimal text of 0 or more, in micro-units; raises `BadInput`."""
    value = body.get(name)
    if isinstance(value, float):
        raise BadInput(f"{name} is a float, which no amount may be: write it as text, like '12.50'")
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise BadInput(
            f"{name} {str(value)[:40]!r} is no amount: write text of 0 or more with at most six "
            "decimals, like '12.50'"
        )
    micro = int(Decimal(value) * 1_000_000)
    if micro > MAX_MICRO:
        raise BadInput(f"{name} {value[:40]!r} is out of range for an amount")
    return micro


def parse_count(body: Mapping[str, Any], name: str, fallback: int, most: int) -> int:
    """Return the whole number *name*, from 0 to *most*; raises `BadInput`."""
    value = body.get(name, fallback)
    if type(value) is not int or not 0 <= value <= most:
        raise BadInput(f"{name} {str(value)[:40]!r} is no whole number from 0 to {most}")
    return value


def parse_instant(body: Mapping[str, Any], name: str, fallback: int | None = None) -> int:
    """Return the UTC date or time *name* in µs; raises `BadInput`."""
    value = body.get(name)
    if value is None and fallback is not None:
        return fallback
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # refused below
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at_us = (int(moment.timestamp()) * US_PER_S) + moment.microsecond
        to_datetime(at_us)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(
            f"{name} {str(value)[:40]!r} is no UTC date or time like 2026-11-23 or 2026-11-23T08:00"
        ) from error
    if at_us < 0:
        raise BadInput(f"{name} lies before 1970")
    return at_us


def parse_window(
    body: Mapping[str, Any], first: str, last: str, fallback_us: int
) -> tuple[int, int]:
    """Return [start, end) from two fields; raises `BadInput` when nothing lies between them."""
    start_us = parse_instant(body, first, fallback_us)
    end_us = parse_instant(body, last)
    if end_us <= start_us:
        raise BadInput(f"{last} must lie after {first}")
    return start_us, end_us
