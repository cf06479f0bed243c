"""Whether an instance is in use, and when one that is not is to be stopped. Pure: no clock, no I/O.

In use is a busy kernel, a program in a terminal, a GPU at work, a read of a dataset, somebody at
the pages, or the word of its owner (`nightingale extend`). What is not known counts as in use, up
to a ceiling. Before a stop the owner is warned twice, with the reason.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nightingale_hub.clock import US_PER_S, format_duration, format_time

BUSY_GPU_PERCENT = 10.0
# A report comes every 30 s; one that is older says nothing about now.
FRESH_US = 180 * US_PER_S
WARNINGS = 2


class Verdict(StrEnum):
    """What is to happen to an instance now."""

    KEEP = "keep"
    WARN = "warn"
    STOP = "stop"


@dataclass(frozen=True)
class Policy:
    """How long an instance may be idle, or unknown, and how long before a stop it is warned."""

    timeout_us: int
    ceiling_us: int
    warn_us: int


@dataclass(frozen=True)
class Use:
    """What is known of an instance's use; None is unknown or not yet."""

    ready_us: int
    report: dict[str, Any] | None = None  # the agent's last
    told_us: int | None = None
    active_us: int | None = None  # last seen in use
    why: str = ""  # what for
    pages_us: int | None = None  # the hub last saw its owner
    keep_until_us: int | None = None
    warned: int = 0
    warned_us: int | None = None


@dataclass(frozen=True)
class Decision:
    """What is to happen, and the sentence that tells its owner why."""

    verdict: Verdict
    reason: str


def find_use(report: dict[str, Any], last: dict[str, Any] | None) -> str | None:
    """Return what *report* shows in use, an empty string for nothing, None when it can't tell.

    *last* is the report before it, against which reads and requests are seen to go on.
    """
    kernels, programs = report.get("busy_kernels"), report.get("programs")
    gpu, read_us = report.get("gpu_percent"), report.get("read_us")
    if kernels:
        return f"{kernels} busy kernel{'' if kernels == 1 else 's'}"
    if programs:
        return f"{programs} program{'' if programs == 1 else 's'} in a terminal or left running"
    if gpu is not None and gpu >= BUSY_GPU_PERCENT:
        return f"the GPU at {gpu:.0f} %"
    if read_us is not None and last is not None and read_us > (last.get("read_us") or 0):
        return "reads of a dataset"
    asked_us = report.get("asked_us")
    # A server that did not answer yet said nothing of who had asked it before.
    before_us = None if last is None else last.get("asked_us")
    if asked_us is not None and before_us is not None and asked_us > before_us:
        return "somebody at its pages"
    is_blind = kernels is None or programs is None or bool(report.get("unknown"))
    return None if is_blind else ""


def decide(use: Use, policy: Policy, at_us: int) -> Decision:
    """Return what is to happen at *at_us*."""
    if policy.timeout_us <= 0:
        return Decision(Verdict.KEEP, "instances of this hub are not stopped as idle")
    if use.keep_until_us is not None and use.keep_until_us > at_us:
        return Decision(Verdict.KEEP, f"its owner keeps it until {format_time(use.keep_until_us)}")
    seen = [use.ready_us, use.active_us or 0, use.pages_us or 0, use.keep_until_us or 0]
    idle_us = at_us - max(seen)
    is_fresh = use.told_us is not None and at_us - use.told_us <= FRESH_US
    is_known = is_fresh and use.report is not None and find_use(use.report, None) is not None
    limit_us = policy.timeout_us if is_known else max(policy.ceiling_us, policy.timeout_us)
    for_s = format_duration(max(0, idle_us) // US_PER_S)
    if is_known:
        last = f"; last was {use.why}" if use.why else ""
        reason = f"no kernel, terminal, GPU or dataset was in use for {for_s}{last}"
    else:
        reason = f"nobody can tell whether it was in use for {for_s}"
    if idle_us < limit_us - policy.warn_us:
        return Decision(Verdict.KEEP, reason)
    if use.warned == 0 or (use.warned < WARNINGS and idle_us >= limit_us - policy.warn_us // 3):
        return Decision(Verdict.WARN, reason)
    # Whoever looks late must not leave out the time between the last warning and the stop.
    warned_us = at_us if use.warned_us is None else use.warned_us
    is_warned = use.warned >= WARNINGS and at_us - warned_us >= policy.warn_us // 3
    if idle_us >= limit_us and is_warned:
        return Decision(Verdict.STOP, reason)
    return Decision(Verdict.KEEP, reason)
