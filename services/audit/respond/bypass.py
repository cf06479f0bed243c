"""A bypass: a person says what they will do, and an admin allows it, for a time and with a reason.

Nobody allows it for themself. It holds for the rules that it names, which never are those of
honeyfiles and of the log's own health; what is found meanwhile is recorded as ever and leads to
nothing. Each is a leaf of the log.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from nightingale_hub.errors import BadInput, NotAllowed
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.tables.incidents import bypass

MOST_HOURS = 48
LEAST_REASON_CHARS = 20
MOST_REASON_CHARS = 500
HOUR_US = 3_600_000_000
PASSABLE = ("R1", "R2", "R3", "R4", "R5", "R6", "R8")


def grant_bypass(
    conn: Connection,
    owner: str,
    rules: Sequence[str],
    hours: int,
    granted_by: str,
    reason: str,
    at_us: int,
) -> int:
    """Let *owner* break *rules* for *hours* from now; return its number. The caller commits.

    Raises `NotAllowed` when they would allow it for themselves, `BadInput` for the rest.
    """
    if owner == granted_by:
        raise NotAllowed("nobody allows a bypass for themself; ask another admin")
    if not owner or not granted_by:
        raise BadInput("a bypass names whom it is for and who allows it")
    unknown = sorted(set(rules) - set(PASSABLE))
    if unknown or not rules:
        raise BadInput(
            f"a bypass names rules of {', '.join(PASSABLE)}"
            + (f"; not {', '.join(unknown)[:80]}" if unknown else "")
        )
    if not 1 <= hours <= MOST_HOURS:
        raise BadInput(f"a bypass lasts from 1 to {MOST_HOURS} hours")
    if not LEAST_REASON_CHARS <= len(reason.strip()) <= MOST_REASON_CHARS:
        raise BadInput(
            f"say what will be done, in {LEAST_REASON_CHARS} to {MOST_REASON_CHARS} characters"
        )
    values = {
        "owner": owner,
        "rules": " ".join(sorted(set(rules))),
        "since_us": at_us,
        "until_us": at_us + hours * HOUR_US,
        "granted_by": granted_by,
        "reason": reason.strip(),
    }
    row = conn.execute(insert(bypass).values(**values))
    assert row.inserted_primary_key is not None
    number = int(row.inserted_primary_key[0])
    append_leaf(conn, "bypass", {"bypass": number, **values}, at_us)
    return number


def is_passed(conn: Connection, owner: str, rule: str, since_us: int, at_us: int) -> bool:
    """Tell whether *owner* might break *rule* at *at_us*, in what began at *since_us*.

    What was begun before it was allowed is not excused by it.
    """
    query = select(bypass.c.rules).where(
        bypass.c.owner == owner,
        bypass.c.since_us <= max(since_us, 0),
        bypass.c.until_us > since_us,
        bypass.c.since_us <= at_us,
    )
    return any(rule in rules.split() for rules in conn.execute(query).scalars())
