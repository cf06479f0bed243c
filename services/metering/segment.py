"""A segment: time of one meter, one boot and one shape. Half-open, in µs."""

from dataclasses import dataclass, replace

READY = "ready"
ALLOCATED = "allocated"
STOP_ACCEPTED = "stop accepted"
GONE = "gone"
CRASHED = "crashed"  # at the cloud's own time, else its last proof
BOOT_ENDED = "boot ended"  # the cloud says so; another boot may follow
BOOT_CHANGED = "boot changed"
RESIZED = "resized"
REMOVED = "removed"  # of a disk or an address

Key = tuple[str, str, int]  # meter, boot, part


@dataclass(frozen=True)
class Shape:
    """What an instance is, and its list rate as it was shown."""

    instance_type: str = ""
    cpu: str = ""
    gpu: str = ""
    disk: str = ""
    nano_usd_per_hour: int = 0


@dataclass(frozen=True)
class Segment:
    """Half-open [start, end) of one meter, boot and shape; without an end it is still open."""

    meter: str
    boot_id: str
    start_us: int
    seen_us: int
    end_us: int | None = None
    cause: str = ""
    part: int = 0
    shape: Shape = Shape()

    @property
    def key(self) -> Key:
        """What tells it from the instance's other segments."""
        return self.meter, self.boot_id, self.part

    def extend(self, seen_us: int) -> "Segment":
        """Return it proven up to *seen_us* at least."""
        return replace(self, seen_us=max(self.seen_us, seen_us))

    def close(self, end_us: int, cause: str) -> "Segment":
        """Return it ended at *end_us*, at the earliest at its start."""
        end_us = max(end_us, self.start_us)
        return replace(self, seen_us=end_us, end_us=end_us, cause=cause)


def is_checkpoint(before: Segment | None, after: Segment) -> bool:
    """Tell whether *after* only proves more of *before*, so that it may be stored later."""
    return before is not None and replace(before, seen_us=after.seen_us) == after
