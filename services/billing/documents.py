"""What an invoice, a credit note and a statement say, and the states they may be in. Pure.

A draft is worked out anew each time it is looked at. Once final, its number, content and PDF
never change; what was wrong is corrected by a credit note.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nightingale_hub.errors import BadInput, Conflict
from nightingale_hub.money import format_minor, round_to_minor


class State(StrEnum):
    """Where a document stands."""

    DRAFT = "draft"  # no number, nothing is owed
    FINAL = "final"  # numbered and frozen; owed until it is due
    OVERDUE = "overdue"
    PAID = "paid"
    CREDITED = "credited"  # credit notes took back all of it


EDGES = {
    "draft_to_final": (State.DRAFT, State.FINAL),
    "final_to_paid": (State.FINAL, State.PAID),
    "final_to_overdue": (State.FINAL, State.OVERDUE),
    "overdue_to_paid": (State.OVERDUE, State.PAID),
    "final_to_credited": (State.FINAL, State.CREDITED),
    "overdue_to_credited": (State.OVERDUE, State.CREDITED),
}
SERIES = {"invoice": "INV", "credit_note": "CN"}


@dataclass(frozen=True)
class Line:
    """One line of a document; an amount that lowers the total is negative."""

    text: str
    amount_micro: int
    start_us: int | None = None
    seconds: int | None = None


@dataclass(frozen=True)
class Head:
    """Who asks whom for money, for what period, when."""

    kind: str
    issuer: str
    customer: str
    month: str
    currency: str
    issued_us: int
    due_us: int | None = None
    corrects: str = ""
    reason: str = ""


def edge(before: State, after: State) -> str:
    """Return the edge from *before* to *after*; raises `Conflict` when there is none."""
    for name, (leaves, reaches) in EDGES.items():
        if (leaves, reaches) == (before, after):
            return name
    raise Conflict(f"a document that is {before} cannot become {after}")


def format_number(kind: str, count: int) -> str:
    """Return the *count*th number of its series: `INV-000042`."""
    return f"{SERIES[kind]}-{count:06d}"


def write_content(
    head: Head, number: str, lines: Sequence[Line], free_seconds: int = 0
) -> dict[str, Any]:
    """Return what the document says, fit for JSON: its lines sum to its total in both units."""
    minor = round_to_minor([line.amount_micro for line in lines], head.currency)
    return {
        "kind": head.kind,
        "number": number,
        "issuer": head.issuer,
        "customer": head.customer,
        "month": head.month,
        "currency": head.currency,
        "issued_us": head.issued_us,
        "due_us": head.due_us,
        "corrects": head.corrects,
        "reason": head.reason,
        "lines": [
            {
                "text": line.text,
                "start_us": line.start_us,
                "seconds": line.seconds,
                "amount_micro": line.amount_micro,
                "amount_minor": amount,
            }
            for line, amount in zip(lines, minor, strict=True)
        ],
        "total_micro": sum(line.amount_micro for line in lines),
        "total_minor": sum(minor),
        "free_seconds": free_seconds,
    }


def encode_content(content: Mapping[str, Any]) -> str:
    """Return *content* as the one text that is stored and hashed."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256_hex(data: bytes) -> str:
    """Return the hash that a frozen document is known by."""
    return hashlib.sha256(data).hexdigest()


def check_credit(total_minor: int, credited_minor: int, amount_minor: int, currency: str) -> None:
    """Raise `BadInput` unless *amount_minor* may be taken back of an invoice."""
    left = total_minor - credited_minor
    if not 0 < amount_minor <= left:
        raise BadInput(
            f"a credit note is of more than nothing and at most {format_minor(left, currency)}, "
            "what the invoice still asks for"
        )


def share_free_seconds(contribution_micro: int, free_micro: int, free_seconds: int) -> int:
    """Return how long non-profit use could run for *contribution_micro*.

    At the average cost of the free use of the same month: *free_micro* for *free_seconds*.
    """
    if contribution_micro <= 0 or free_micro <= 0:
        return 0
    return contribution_micro * free_seconds // free_micro
