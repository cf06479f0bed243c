"""Whether honeyfiles work: each day the agent of an instance opens one, and its record must come.

It comes from root of the instance, so it raises nothing; when it stays away for a day and a bit
while the instance runs, either the honeyfiles are not served or records do not arrive.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, select

from nightingale_hub.findings import Severity, raise_finding
from nightingale_hub.instances import State
from nightingale_hub.tables.decoys import decoy
from nightingale_hub.tables.instances import instance

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SILENT_AFTER_US = 26 * HOUR_US


def check_probes(conn: Connection, probed: Mapping[str, int], at_us: int) -> None:
    """Raise A1 for each owner and dataset whose daily open has not come, by *probed*.

    An instance counts once it runs for as long, with honeyfiles that it was told of at its boot.
    """
    query = (
        select(decoy.c.owner, decoy.c.dataset)
        .join(instance, instance.c.owner == decoy.c.owner)
        .where(
            decoy.c.is_probe.is_(True),
            instance.c.actual == State.RUNNING,
            instance.c.ready_us < at_us - SILENT_AFTER_US,
            decoy.c.planted_us < instance.c.ready_us,
        )
        .distinct()
    )
    for owner, dataset in conn.execute(query).all():
        if probed.get(f"{owner}/{dataset}", 0) >= at_us - SILENT_AFTER_US:
            continue
        reason = (
            f"No honeyfile of {dataset} was seen to be opened by the agent of {owner}'s instance "
            "for 26 hours: either none is served, or records do not arrive."
        )
        raise_finding(
            conn,
            key=f"A1/probe/{owner}/{dataset}/{at_us // DAY_US}",
            kind="A1",
            severity=Severity.HIGH,
            subject=f"dataset:{dataset}",
            evidence={"reason": reason, "dataset": dataset, "version": 1},
            at_us=at_us,
        )
