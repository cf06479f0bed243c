"""Appends a leaf to the tamper-evident log, in the transaction of what it stands for.

Either both are committed or neither is. The audit service gives each leaf its position in the
log within a second and signs the log's head every minute (docs/audit-log.md). What is hashed is
the payload's SHA-256 and not the payload, so a payload may be erased and the log still verifies.
"""

import hashlib
import json
import re
from collections.abc import Mapping

from sqlalchemy import Connection, insert

from nightingale_hub.tables.log import log_leaf

MAX_PAYLOAD_BYTES = 64 << 10
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")


def append_leaf(conn: Connection, kind: str, payload: Mapping[str, object], at_us: int) -> int:
    """Append *payload* as a leaf of *kind* and return the leaf's id; the caller commits.

    *kind* is one word for what it stands for (`journal`, `invoice`, `price_change`), *payload* a
    JSON object of text, whole numbers, lists and objects. Hash what is large or personal.
    """
    assert _KIND.fullmatch(kind), kind
    text = format_payload(payload)
    assert len(text) <= MAX_PAYLOAD_BYTES, f"{kind} leaf of {len(text)} bytes: hash it instead"
    row = conn.execute(
        insert(log_leaf).values(kind=kind, payload=text, sha256=hash_text(text), at_us=at_us)
    )
    assert row.inserted_primary_key is not None
    return int(row.inserted_primary_key[0])


def format_payload(payload: Mapping[str, object]) -> str:
    """Return *payload* as the one JSON text that it has here: ASCII, keys sorted, no space."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_text(text: str) -> str:
    """Return the SHA-256 of *text*, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
