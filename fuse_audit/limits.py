"""When an audit mount closes, read from the `guard` object of `mount.json`.

Every key may be missing; what is there is checked here, before anything is mounted.
"""

from dataclasses import dataclass, fields
from typing import Any

from nightingale_hub.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """When the gate of one mount closes.

    `reader_uid` is the one account that may read, with its subordinate ids; None lets everybody
    whom the kernel lets. `counts_egress` serves data only while what is sent is counted.
    `waits_for_hub` answers nothing before the hub has stored its record: for an instance that
    keeps no disk.
    """

    refuse_opens_after_s: float = 60.0
    refuse_reads_after_s: float = 900.0
    stop_after_s: float = 3600.0
    spool_full_percent: int = 80
    reader_uid: int | None = None
    counts_egress: bool = False
    waits_for_hub: bool = False


def parse_limits(data: Any) -> Limits:
    """Return the limits in *data*; raise `ConfigError` naming the first that is wrong."""
    if not isinstance(data, dict):
        raise ConfigError("guard must be an object")
    kinds = {each.name: each.type for each in fields(Limits)}
    for name, value in data.items():
        if name not in kinds:
            raise ConfigError(f"guard.{name} is unknown; known: {', '.join(sorted(kinds))}")
        _check(name, value, kinds[name])
    limits = Limits(**data)
    ladder = [limits.refuse_opens_after_s, limits.refuse_reads_after_s, limits.stop_after_s]
    if sorted(ladder) != ladder or ladder[0] <= 0:
        raise ConfigError(
            "guard: refuse_opens_after_s, refuse_reads_after_s and stop_after_s must be above 0, "
            f"each at least the one before; they are {', '.join(f'{each:g}' for each in ladder)}"
        )
    if not 0 < limits.spool_full_percent <= 100:
        raise ConfigError(
            f"guard.spool_full_percent is {limits.spool_full_percent}; it must be from 1 to 100"
        )
    return limits


def _check(name: str, value: Any, kind: Any) -> None:
    if kind is bool:
        is_right = isinstance(value, bool)
    elif kind is float:
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        is_right = (isinstance(value, int) and not isinstance(value, bool) and value >= 0) or (
            name == "reader_uid" and value is None
        )
    if not is_right:
        raise ConfigError(f"guard.{name} is {value!r}, which is not of its kind")
