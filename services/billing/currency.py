"""The currencies that money is kept in: ISO 4217's letters, and how many decimals an invoice has.

Each account and each customer is in one of them, and nothing is ever exchanged.
"""

from nightingale_hub.errors import BadInput

# Decimals of the smallest unit that is paid in. ref: https://www.iso.org/iso-4217-currency-codes.html
DECIMALS = {
    "AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2,
    "HKD": 2, "HUF": 2, "ILS": 2, "INR": 2, "JPY": 0, "KRW": 0, "MXN": 2, "NOK": 2, "NZD": 2,
    "PLN": 2, "RON": 2, "SEK": 2, "SGD": 2, "TRY": 2, "TWD": 2, "USD": 2, "ZAR": 2,
}  # fmt: skip


def check_currency(text: str) -> str:
    """Return *text*, a currency that is kept here; raises `BadInput`."""
    if text not in DECIMALS:
        raise BadInput(
            f"currency {text[:40]!r} is not known; write one of {', '.join(sorted(DECIMALS))}"
        )
    return text
