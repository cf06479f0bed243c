"""The currencies that money is kept in: ISO 4217's letters, and how many decimals an invoice has.

Each account and each customer is in one of them, and nothing is ever exchanged.
"""

from nightingale_hub.errors import BadInput
from nightingale_hub.money import DECIMALS

__all__ = ["DECIMALS", "check_currency"]


def check_currency(text: str) -> str:
    """Return *text*, a currency that is kept here; raises `BadInput`."""
    if text not in DECIMALS:
        raise BadInput(
            f"currency {text[:40]!r} is not known; write one of {', '.join(sorted(DECIMALS))}"
        )
    return text
