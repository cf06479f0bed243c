"""The receipt: up to which line the audit service has acknowledged a spool, and since when.

The shipper writes it, the gate reads it. It is a hint, not a record: a lost one makes the gate
refuse sooner, never later, and the service knows the truth.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from nightingale_hub.clock import now_us

_NAME = "receipt.json"


class Receipt(NamedTuple):
    """Line *ack* and all before it are acknowledged, since *at_us*."""

    ack: int
    at_us: int


def save_receipt(directory: str, ack: int) -> None:
    """Say in the spool at *directory* that lines up to *ack* are acknowledged, as of now."""
    draft = os.path.join(directory, f".{_NAME}.new")
    Path(draft).write_text(json.dumps({"ack": ack, "at_us": now_us()}))
    os.replace(draft, os.path.join(directory, _NAME))


def find_receipt(directory: str) -> Receipt | None:
    """Return the newest receipt in *directory*, or None when none is whole."""
    try:
        data = json.loads(Path(directory, _NAME).read_bytes())
        return Receipt(int(data["ack"]), int(data["at_us"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
