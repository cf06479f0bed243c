"""The rules of the meter: which segments follow from an instance's record and its beats.

Pure: it knows no clock, no database, no network. Nothing is counted: a boot id that is seen again
proves that the time between was up time, so beats may be missed, late, doubled or out of order.
A segment that ended is never changed, for it may have been billed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nightingale_hub.clock import US_PER_S

READY = "ready"
ALLOCATED = "allocated"
STOP_ACCEPTED = "stop accepted"
GONE = "gone"
BOOT_CHANGED = "boot changed"
# How late a beat may arrive, at most: an agent gives one up after 5 s and never sends it again.
LATE_BEAT_US = 10 * US_PER_S


@dataclass(frozen=True)
class Record:
    """What the instance record says; None is not yet. All times in µs."""

    boot_id: str | None = None
    allocated_us: int | None = None
    ready_us: int | None = None
    stop_accepted_us: int | None = None
    gone_us: int | None = None

    @property
    def ending(self) -> tuple[int, str] | None:
        """When and why `ready` time ends, once it does: the accepted stop, or an earlier end."""
        ends = [
            (at_us, cause)
            for at_us, cause in ((self.stop_accepted_us, STOP_ACCEPTED), (self.gone_us, GONE))
            if at_us is not None
        ]
        return min(ends, default=None)


@dataclass(frozen=True)
class Beat:
    """One beat: at *at_us* on our clock it arrived from a boot that was up for *uptime_us*."""

    boot_id: str
    uptime_us: int
    at_us: int


@dataclass(frozen=True)
class Proof:
    """All that the beats of one boot prove; it takes two integers, however many beats came.

    A beat can only be delayed, so the earliest start that any of them gives is the nearest to
    the truth, and the largest uptime counted from there is how far the proof reaches.
    """

    boot_id: str
    started_us: int
    uptime_us: int

    @property
    def seen_us(self) -> int:
        """The last instant at which the boot is proven to have been up."""
        return self.started_us + self.uptime_us

    def join(self, beat: Beat) -> "Proof":
        """Return this proof with *beat*, of the same boot, added; order and repetition are free."""
        assert beat.boot_id == self.boot_id
        return Proof(
            self.boot_id,
            min(self.started_us, beat.at_us - beat.uptime_us),
            max(self.uptime_us, beat.uptime_us),
        )


@dataclass(frozen=True)
class Segment:
    """Half-open [start, end) of one meter and one boot; without an end it is still open."""

    meter: str
    boot_id: str
    start_us: int
    seen_us: int
    end_us: int | None = None
    cause: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the instance's other segments."""
        return self.meter, self.boot_id

    def extend(self, seen_us: int) -> "Segment":
        """Return it proven up to *seen_us* at least."""
        return replace(self, seen_us=max(self.seen_us, seen_us))

    def close(self, end_us: int, cause: str) -> "Segment":
        """Return it ended at *end_us*, at the earliest at its start."""
        end_us = max(end_us, self.start_us)
        return replace(self, seen_us=end_us, end_us=end_us, cause=cause)


def prove(beat: Beat) -> Proof:
    """Return what *beat* alone proves."""
    return Proof(beat.boot_id, beat.at_us - beat.uptime_us, beat.uptime_us)


def find_changes(
    record: Record, proofs: Iterable[Proof], segments: Iterable[Segment]
) -> dict[tuple[str, str], Segment]:
    """Return every segment, by key, that differs from *segments* or is not among them yet.

    Once these are stored, the same call returns nothing.
    """
    known = {segment.key: segment for segment in segments}
    in_order = sorted(proofs, key=lambda proof: (proof.started_us, proof.boot_id))
    wanted = [*_allocated(record, in_order, known), *_ready(record, in_order, known)]
    return {each.key: each for each in wanted if known.get(each.key) != each}


def is_newer(record: Record, segments: Iterable[Segment], proof: Proof) -> bool:
    """Tell whether *proof* is of a boot that follows the one that is metered now.

    It must have started after all that is proven of the present boot, but for what a late beat
    may have proven too much: else two agents use one credential.
    """
    ready = _by_start(segments)
    if record.ending is not None or not ready or ready[-1].end_us is not None:
        return False
    if any(segment.boot_id == proof.boot_id for segment in ready):
        return False
    return proof.started_us + LATE_BEAT_US >= ready[-1].seen_us


def is_checkpoint(before: Segment | None, after: Segment) -> bool:
    """Tell whether *after* only proves more of *before*, so that it may be stored later."""
    return before is not None and replace(before, seen_us=after.seen_us) == after


def _allocated(
    record: Record, proofs: list[Proof], known: dict[tuple[str, str], Segment]
) -> list[Segment]:
    if record.allocated_us is None:
        return []
    opened = Segment(ALLOCATED, "", record.allocated_us, record.allocated_us)
    segment = known.get(opened.key, opened)
    if segment.end_us is not None:
        return []
    if record.gone_us is not None:
        return [segment.close(record.gone_us, GONE)]
    return [segment.extend(max((proof.seen_us for proof in proofs), default=segment.seen_us))]


def _ready(
    record: Record, proofs: list[Proof], known: dict[tuple[str, str], Segment]
) -> list[Segment]:
    if record.ready_us is None or record.boot_id is None:
        return []
    chain = _by_start(known.values())
    if not chain:
        if record.ending is not None and record.ending[0] < record.ready_us:
            return []  # it was to stop before it was ever ready
        chain = [Segment(READY, record.boot_id, record.ready_us, record.ready_us)]
    for proof in proofs:
        current = chain[-1]
        if current.end_us is not None:
            break
        if proof.boot_id == current.boot_id:
            chain[-1] = _extend(record, chain, proof)
        elif is_newer(record, chain, proof):
            # Nothing proves that it was up between the boots: that is in the customer's favour.
            chain[-1] = current.close(current.seen_us, BOOT_CHANGED)
            start_us = max(proof.started_us, current.seen_us)
            opened = Segment(READY, proof.boot_id, start_us, start_us)
            chain.append(opened.extend(proof.seen_us))
    if record.ending is not None and chain[-1].end_us is None:
        chain[-1] = chain[-1].close(*record.ending)
    return chain


def _extend(record: Record, chain: list[Segment], proof: Proof) -> Segment:
    current = chain[-1]
    if current.boot_id != record.boot_id:
        # A boot after the first is billed from its start, which a faster beat tells better.
        assert chain[-2].end_us is not None
        started_us = max(proof.started_us, chain[-2].end_us)
        current = replace(current, start_us=min(current.start_us, started_us))
    return current.extend(proof.seen_us)


def _by_start(segments: Iterable[Segment]) -> list[Segment]:
    ready = [segment for segment in segments if segment.meter == READY]
    return sorted(ready, key=lambda segment: (segment.start_us, segment.end_us is None))
