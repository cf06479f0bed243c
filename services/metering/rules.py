"""The rules of the meter: which segments follow from an instance's record and its beats.

Pure: it knows no clock, no database, no network. Nothing is counted: a boot id that is seen again
proves that the time between was up time, so beats may be missed, late, doubled or out of order.
A segment has one boot and one shape. One that ended is never changed, for it may have been billed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nightingale_hub.clock import US_PER_S
from nightingale_hub.services.metering.segment import (
    ALLOCATED,
    BOOT_CHANGED,
    BOOT_ENDED,
    CRASHED,
    GONE,
    READY,
    REMOVED,
    RESIZED,
    STOP_ACCEPTED,
    Key,
    Segment,
    Shape,
)

# Of a boot that is proven so long its start is final, for its first months may have been billed.
SETTLED_US = 3600 * US_PER_S
# How late a beat may arrive, at most: an agent gives one up after 5 s and never sends it again.
LATE_BEAT_US = 10 * US_PER_S


@dataclass(frozen=True)
class Holding:
    """A disk or an address of an instance, by the cloud's name for it."""

    kind: str
    resource_id: str
    from_us: int
    until_us: int | None = None


@dataclass(frozen=True)
class Record:
    """What is recorded of an instance; None is not yet. All times in µs."""

    boot_id: str | None = None
    allocated_us: int | None = None
    ready_us: int | None = None
    stop_accepted_us: int | None = None
    gone_us: int | None = None
    is_crashed: bool = False  # the stop was not asked for: it died
    bills_stopped: bool = True  # the cloud bills what is stopped, until it is gone
    shapes: tuple[tuple[int, Shape], ...] = ()  # from when, what; in order
    stops: Mapping[str, int] = field(default_factory=dict)  # the cloud's own, by boot
    holdings: tuple[Holding, ...] = ()

    @property
    def ending(self) -> tuple[int, str] | None:
        """When and why `ready` time ends, once it does: the accepted stop, or an earlier end."""
        cause = CRASHED if self.is_crashed else STOP_ACCEPTED
        ends = [
            (at_us, why)
            for at_us, why in ((self.stop_accepted_us, cause), (self.gone_us, GONE))
            if at_us is not None
        ]
        return min(ends, default=None)

    def shape_at(self, at_us: int) -> Shape:
        """Return what the instance is at *at_us*: the first shape also before its own instant."""
        known = [shape for from_us, shape in self.shapes if from_us <= at_us]
        return (known or [shape for _, shape in self.shapes[:1]] or [Shape()])[-1]


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


def prove(beat: Beat) -> Proof:
    """Return what *beat* alone proves."""
    return Proof(beat.boot_id, beat.at_us - beat.uptime_us, beat.uptime_us)


def find_changes(
    record: Record, proofs: Iterable[Proof], segments: Iterable[Segment]
) -> dict[Key, Segment]:
    """Return every segment, by key, that differs from *segments* or is not among them yet.

    Once these are stored, the same call returns nothing.
    """
    known = {segment.key: segment for segment in segments}
    in_order = sorted(proofs, key=lambda proof: (proof.started_us, proof.boot_id))
    wanted = [
        *_allocated(record, in_order, known),
        *_ready(record, in_order, known),
        *_held(record, known),
    ]
    parts = [part for each in wanted for part in _split(record, each, known.get(each.key))]
    return {each.key: each for each in parts if known.get(each.key) != each}


def is_newer(record: Record, segments: Iterable[Segment], proof: Proof) -> bool:
    """Tell whether *proof* is of a boot that follows the one that is metered now.

    It must have started after all that is proven of the present boot, but for what a late beat
    may have proven too much: else two agents use one credential.
    """
    ready = _by_start(segments)
    if record.ending is not None or not ready:
        return False
    if ready[-1].end_us is not None and ready[-1].cause != BOOT_ENDED:
        return False
    if any(segment.boot_id == proof.boot_id for segment in ready):
        return False
    return proof.started_us + LATE_BEAT_US >= ready[-1].seen_us


def is_present(segments: Iterable[Segment], boot_id: str) -> bool:
    """Tell whether *boot_id* is the boot that is metered now, or was to the end."""
    mine = [each for each in _by_start(segments) if each.boot_id == boot_id]
    return bool(mine) and mine[-1].cause != BOOT_CHANGED


def _allocated(record: Record, proofs: list[Proof], known: dict[Key, Segment]) -> list[Segment]:
    if record.allocated_us is None:
        return []
    segment = _last(known, ALLOCATED, "") or Segment(
        ALLOCATED, "", record.allocated_us, record.allocated_us
    )
    if segment.end_us is not None:
        return []
    if record.gone_us is not None:
        return [segment.close(_find_unallocated(record, record.gone_us, known), GONE)]
    return [segment.extend(max((proof.seen_us for proof in proofs), default=segment.seen_us))]


def _find_unallocated(record: Record, gone_us: int, known: dict[Key, Segment]) -> int:
    """Return when the cloud stopped to bill for an instance that is gone."""
    if record.bills_stopped:
        return gone_us
    ready = _by_start(known.values())
    boot_id = ready[-1].boot_id if ready else record.boot_id
    return min(gone_us, record.stops.get(boot_id or "", gone_us))


def _held(record: Record, known: dict[Key, Segment]) -> list[Segment]:
    held = []
    parts: Counter[tuple[str, str]] = Counter()
    for each in record.holdings:
        name = (each.kind, each.resource_id)
        opened = Segment(*name, each.from_us, each.from_us, part=parts[name])
        parts[name] += 1
        segment = known.get(opened.key, opened)
        if segment.end_us is None and each.until_us is not None:
            segment = segment.close(each.until_us, REMOVED)
        held.append(segment)
    return held


def _split(record: Record, segment: Segment, stored: Segment | None) -> list[Segment]:
    """Return *segment*, unless it is *stored* with an end, in its parts of one shape each."""
    if stored is not None and stored.end_us is not None:
        return []
    shape = segment.shape if stored is not None else record.shape_at(segment.start_us)
    parts, current = [], replace(segment, shape=shape)
    if segment.meter not in (READY, ALLOCATED):
        return [current]
    for from_us, shape in record.shapes:
        is_inside = current.end_us is None or from_us < current.end_us
        if shape != current.shape and from_us > current.start_us and is_inside:
            parts.append(current.close(from_us, RESIZED))
            current = replace(
                current,
                part=current.part + 1,
                shape=shape,
                start_us=from_us,
                seen_us=max(from_us, current.seen_us),
            )
    return [*parts, current]


def _last(known: dict[Key, Segment], meter: str, boot_id: str) -> Segment | None:
    parts = [each for key, each in known.items() if key[:2] == (meter, boot_id)]
    return max(parts, key=lambda each: each.part, default=None)


def _ready(record: Record, proofs: list[Proof], known: dict[Key, Segment]) -> list[Segment]:
    if record.ready_us is None or record.boot_id is None:
        return []
    chain = _by_start(known.values())
    if not chain:
        if record.ending is not None and record.ending[0] < record.ready_us:
            return []  # it was to stop before it was ever ready
        chain = [Segment(READY, record.boot_id, record.ready_us, record.ready_us)]
    for proof in proofs:
        current = chain[-1]
        if current.end_us is not None and current.cause != BOOT_ENDED:
            break
        if proof.boot_id == current.boot_id:
            if current.end_us is None:
                chain[-1] = _extend(record, chain, proof)
        elif is_newer(record, chain, proof):
            # Nothing proves that it was up between the boots: that is in the customer's favour.
            if current.end_us is None:
                end_us = record.stops.get(current.boot_id, current.seen_us)
                chain[-1] = current = current.close(end_us, BOOT_CHANGED)
            start_us = max(proof.started_us, current.seen_us)
            opened = Segment(READY, proof.boot_id, start_us, start_us)
            chain.append(opened.extend(proof.seen_us))
    if chain[-1].end_us is None:
        chain[-1] = _end(record, chain[-1])
    return chain


def _end(record: Record, current: Segment) -> Segment:
    """Return the open segment with its end, where the record has one."""
    stopped_us = record.stops.get(current.boot_id)
    if record.ending is None:
        return current if stopped_us is None else current.close(stopped_us, BOOT_ENDED)
    end_us, cause = record.ending
    if stopped_us is not None:
        end_us = min(end_us, stopped_us)
    elif cause == CRASHED:
        # It died before anyone saw that: what is proven is charged, no more.
        end_us = min(end_us, current.seen_us)
    return current.close(end_us, cause)


def _extend(record: Record, chain: list[Segment], proof: Proof) -> Segment:
    current = chain[-1]
    if current.boot_id != record.boot_id and current.part == 0 and not _is_settled(current):
        # A boot after the first is billed from its start, which a faster beat tells better.
        assert chain[-2].end_us is not None
        started_us = max(proof.started_us, chain[-2].end_us)
        current = replace(current, start_us=min(current.start_us, started_us))
    return current.extend(proof.seen_us)


def _is_settled(segment: Segment) -> bool:
    return segment.seen_us - segment.start_us >= SETTLED_US


def _by_start(segments: Iterable[Segment]) -> list[Segment]:
    ready = [segment for segment in segments if segment.meter == READY]
    return sorted(ready, key=lambda each: (each.start_us, each.end_us is None, each.part))
