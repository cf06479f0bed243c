"""What each rule looks for, and the words in which it is told.

A rule that cannot tell a copy from a first epoch yet (R1, R2, R3) gives a `Suspicion`; the others
give a `Finding` at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nightingale_hub.clock import format_time
from nightingale_hub.services.audit.detect import counts
from nightingale_hub.services.audit.detect.baseline import is_off_pattern, score_hour
from nightingale_hub.services.audit.detect.catalogue import Extent
from nightingale_hub.services.audit.detect.counts import Minutes, total
from nightingale_hub.services.audit.detect.drip import sum_drip
from nightingale_hub.services.audit.detect.finding import US_PER_MINUTE, Finding
from nightingale_hub.services.audit.detect.reader import Reader
from nightingale_hub.services.audit.detect.rules import (
    MIN_PER_DAY,
    MIN_PER_HOUR,
    MIN_PER_WEEK,
    Rules,
)
from nightingale_hub.services.audit.detect.suspicion import Suspicion, is_ordered
from nightingale_hub.services.audit.event import Event
from nightingale_hub.text import visible

# How long after a finding the same one is not told again; an incident takes in what comes between.
QUIET_MINUTES = {
    "R1": MIN_PER_DAY,
    "R2": MIN_PER_DAY,
    "R3": MIN_PER_DAY,
    "R4": MIN_PER_WEEK,
    "R5": MIN_PER_HOUR,
    "R6": MIN_PER_HOUR,
    "R8": MIN_PER_DAY,
    "H1": 1,
    "A1": MIN_PER_DAY,
}
OFF_PATTERN = " This was at an hour or from a place that is unusual for you, so half of it counts."


@dataclass(frozen=True)
class Scene:
    """One person's reading of one dataset, with the rules to hold it against."""

    owner: str
    dataset: str
    reader: Reader
    extent: Extent
    rules: Rules

    def tell(self, rule: str, severity: str, since: int, until: int, reason: str) -> Finding:
        """Return the finding, from minute *since* to the end of minute *until*."""
        return Finding(
            rule=rule,
            version=self.rules.version,
            severity=severity,
            owner=self.owner,
            dataset=self.dataset,
            since_us=since * US_PER_MINUTE,
            until_us=(until + 1) * US_PER_MINUTE - 1,
            reason=reason,
        )


def find_suspicions(scene: Scene, end: int) -> Iterator[Suspicion]:
    """Yield what R1, R2 and R3 suspect of the windows that end with minute *end*."""
    reader, rules = scene.reader, scene.rules
    share = rules.off_pattern_share if is_off_pattern(reader, end, rules) else 1.0
    start = reader.cleared + 1
    hour, day, week = (
        max(end - minutes + 1, start) for minutes in (MIN_PER_HOUR, MIN_PER_DAY, MIN_PER_WEEK)
    )
    in_hour, in_day = (total(reader.fresh_bytes, first, end) for first in (hour, day))
    if (
        in_hour > share * rules.bulk_hour_bytes
        and score_hour(reader, end, in_hour) > share * rules.bulk_hour_z
    ):
        yield Suspicion("R1", _first(reader.fresh_bytes, hour, end), end)
    elif in_day > share * rules.bulk_day_bytes and (
        in_day > share * rules.bulk_day_share * scene.extent.size
    ):
        yield Suspicion("R1", _first(reader.fresh_bytes, day, end), end)
    new = reader.new.get(end, 0)
    distinct = len(reader.recent.get(end, ()))
    if distinct > share * rules.fan_out_files and new > rules.fan_out_new_share * distinct:
        yield Suspicion("R2", end, end)
    if scene.extent.files >= rules.sweep_least_files:
        for first in (day, week):
            if is_sweep(reader, first, end, scene.extent.files, rules.sweep_share, rules):
                yield Suspicion("R3", _first(reader.new, first, end), end)
                return


def is_sweep(reader: Reader, first: int, end: int, files: int, share: float, rules: Rules) -> bool:
    """Tell whether *share* of *files* was read: whole, and most of it for the first time."""
    distinct = total(reader.seen, first, end)
    if distinct <= share * files:
        return False
    return (
        total(reader.full, first, end) > rules.sweep_full_share * rules.sweep_new_share * distinct
        and total(reader.new, first, end) > rules.sweep_new_share * distinct
    )


def check_now(scene: Scene, end: int, out: Minutes) -> Iterator[Finding]:
    """Yield what R4, R5 and R6 find in the windows that end with minute *end*."""
    reader, rules = scene.reader, scene.rules
    summed, days = sum_drip(reader, end, scene.extent.files, rules)
    if summed > rules.drip_sum and days >= rules.drip_least_days:
        yield scene.tell(
            "R4",
            "high",
            end - MIN_PER_WEEK + 1,
            end,
            f"On {days} of 7 days you read files of {scene.dataset} that you had not read before, "
            "and hardly any of them again. Training reads them again; a slow copy does not.",
        )
    yield from _check_tools(scene, end)
    first = end - rules.out_minutes + 1
    sent = total(out, first, end)
    served = total(reader.served_bytes, first, end)
    if served and sent >= max(rules.out_least_bytes, rules.out_share * served):
        yield scene.tell(
            "R6",
            "high",
            first,
            end,
            f"{format_size(sent)} left for your browser within {rules.out_minutes} minutes in "
            f"which {format_size(served)} of {scene.dataset} were read.",
        )


def _check_tools(scene: Scene, end: int) -> Iterator[Finding]:
    reader, rules = scene.reader, scene.rules
    if not reader.tools:
        return
    first = end - rules.tool_minutes + 1
    files: set[int] = set().union(
        *(reader.tool_files.get(minute, ()) for minute in range(first, end + 1))
    )
    size = total(reader.tool_bytes, first, end)
    off = is_off_pattern(reader, end, rules)
    share = rules.off_pattern_share if off else 1.0
    if len(files) > share * rules.tool_files or size > share * rules.tool_bytes:
        named = [reader.tools[m] for m in range(first, end + 1) if m in reader.tools]
        tool = visible(named[-1]) if named else "a copy tool"
        yield scene.tell(
            "R5",
            "high",
            first,
            end,
            f"{tool} read {len(files)} files and {format_size(size)} of {scene.dataset} within "
            f"{rules.tool_minutes} minutes.{OFF_PATTERN if off else ''}",
        )


def check_out(owner: str, out: Minutes, at: int, rules: Rules) -> Iterator[Finding]:
    """Yield R8 when *owner* took out more within a day than a result is large."""
    sent = total(out, at - MIN_PER_DAY + 1, at)
    if sent > rules.out_day_bytes:
        yield Finding(
            "R8",
            rules.version,
            "medium",
            owner,
            "",
            (at - MIN_PER_DAY + 1) * US_PER_MINUTE,
            (at + 1) * US_PER_MINUTE - 1,
            f"{format_size(sent)} left for your browser within 24 hours; "
            f"{format_size(rules.out_day_bytes)} are usual for results.",
        )


def check_told(
    owner: str, counted: Minutes, told: Minutes, at: int, rules: Rules
) -> Iterator[Finding]:
    """Yield A1 when much more went to the hub than *owner*'s Jupyter tells of.

    Both are told by way of the hub, so that what is missing for a while has time to come.
    """
    end = at - rules.told_minutes
    first = end - MIN_PER_HOUR + 1
    sent, said = total(counted, first, end), total(told, first, end)
    if sent - said > rules.untold_bytes and sent > 2 * said:
        yield Finding(
            "A1",
            rules.version,
            "medium",
            owner,
            "",
            first * US_PER_MINUTE,
            (end + 1) * US_PER_MINUTE - 1,
            f"{format_size(sent)} went from your instance to the hub within an hour, of which your "
            f"Jupyter server tells {format_size(said)}: its count was stopped, or something else "
            "answers in its place.",
            facts={"counted_bytes": sent, "told_bytes": said},
            place="untold",
        )


def tell_suspicion(scene: Scene, suspicion: Suspicion, at: int, out: Minutes) -> Finding:
    """Return the finding that *suspicion* has become at minute *at*."""
    reader, since = scene.reader, suspicion.since
    sent = total(out, since, at)
    once = reader.new if suspicion.rule == "R2" else reader.fresh_bytes
    until = counts.newest(once, since, at) or at
    files, size = total(reader.new, since, at), total(reader.fresh_bytes, since, at)
    order = "in the order of their names" if is_ordered(reader, since, until, scene.rules) else ""
    whole = f" of {scene.extent.files:,}" if scene.extent.files else ""
    reason = (
        f"From {format_time(since * US_PER_MINUTE)} on you read {files:,}{whole} files of "
        f"{scene.dataset}, {format_size(size)}, for the first time{order and ', ' + order}, and "
        "most of them not again. Training reads them again; a copy does not."
    )
    if suspicion.is_shared:
        reason += " Others read most of the rest, each another part."
    if sent:
        reason += f" {format_size(sent)} left for your browser meanwhile."
    if is_off_pattern(reader, until, scene.rules):
        reason += OFF_PATTERN
    severity = "medium" if suspicion.rule == "R2" else "high"
    return scene.tell(suspicion.rule, severity, since, at, reason)


def tell_decoy(event: Event, stream_id: str, at_us: int, rules: Rules) -> Finding:
    """Return H1: a honeyfile was opened, or, which is worse, read."""
    is_read = event.act == "read" and event.len > 0
    # Not which file: who reads this sentence would know it from then on.
    done = "read" if is_read else "opened"
    return Finding(
        rule="H1",
        version=rules.version,
        severity="critical" if is_read else "high",
        owner=event.user,
        dataset=event.ds,
        since_us=at_us,
        until_us=at_us,
        reason=f"A file of {event.ds} that is in no manifest, and that no study uses, was {done}.",
        facts={"pid": event.pid, "executable": event.exe, "stream": stream_id, "path": event.path},
        place=event.path,
    )


def tell_clock(event: Event, stream_id: str, received_us: int, rules: Rules) -> Finding:
    """Return A1: what an instance says of the time is not what it was."""
    is_ahead = event.ts > received_us
    minutes = abs(event.ts - received_us) // US_PER_MINUTE
    return Finding(
        rule="A1",
        version=rules.version,
        severity="medium" if is_ahead else "low",
        owner=event.user,
        dataset="",
        since_us=received_us,
        until_us=received_us,
        reason=f"Records came {minutes} minutes "
        + ("before their own time: the instance's clock is wrong." if is_ahead else "late."),
        facts={"stream": stream_id, "seq": event.seq},
        place=stream_id,
    )


def format_size(size: int) -> str:
    """Return *size* bytes as a person reads them."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def _first(amounts: Minutes, first: int, end: int) -> int:
    return counts.oldest(amounts, first, end) or end
