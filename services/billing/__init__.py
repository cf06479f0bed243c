"""Turns segments into money: prices, ledger, statements."""
