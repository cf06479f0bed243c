"""How long a launch will take, by the last ones of its kind in the same place."""

from dataclasses import dataclass
from statistics import median

from sqlalchemy import Connection, select

from nightingale_hub.clock import US_PER_S, format_duration
from nightingale_hub.tables.instances import instance

LOOKED_AT = 20
# Fewer of the same type say less than more of any type.
ENOUGH = 3


@dataclass(frozen=True)
class Estimate:
    """The median time from asking to ready of *count* launches."""

    seconds: float
    count: int

    def __str__(self) -> str:
        """Read as `about 48 s, by the last 12 launches here`."""
        times = "launch" if self.count == 1 else f"{self.count} launches"
        return f"about {format_duration(max(1, round(self.seconds)))}, by the last {times} here"


def estimate_launch(
    conn: Connection, cloud: str, region: str, instance_type: str
) -> Estimate | None:
    """Return how long a launch takes, by those of the same type where there are enough, else by
    all of the region; None before the first.
    """
    query = (
        select(instance.c.instance_type, instance.c.ready_us - instance.c.created_us)
        .where(
            instance.c.cloud == cloud, instance.c.region == region, instance.c.ready_us.is_not(None)
        )
        .order_by(instance.c.created_us.desc())
        .limit(LOOKED_AT)
    )
    rows = [(kind, took_us / US_PER_S) for kind, took_us in conn.execute(query)]
    same = [took_s for kind, took_s in rows if kind == instance_type]
    taken = same if len(same) >= ENOUGH else [took_s for _, took_s in rows]
    return Estimate(median(taken), len(taken)) if taken else None
