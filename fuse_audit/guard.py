"""The guard: what the gate refuses while records do not reach the hub, and why.

The law: it fails closed, by a ladder. A record that waits too long, or a spool too full, refuses
new opens; one that waits much longer refuses reads of what is open too; in the end the instance
is to be stopped. A dataset that was withdrawn, or egress that nobody counts, refuses new opens.
The newest word is always in AUDIT-STATUS.txt, in a `guard.json` for the agent, and in the log.
"""

import enum
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from nightingale_hub.audit_notes import Notes, load_notes, read_clock
from nightingale_hub.clock import format_time, now_us
from nightingale_hub.errors import Conflict
from nightingale_hub.fuse_audit.backlog import Backlog
from nightingale_hub.fuse_audit.limits import Limits
from nightingale_hub.fuse_audit.receipt import find_receipt
from nightingale_hub.fuse_audit.spool import Spool

STATE_FILE = "guard.json"
LOOK_EVERY_S = 0.5
# The agent counts every 10 s.
EGRESS_COUNTED_WITHIN_S = 45.0
STORED_WITHIN_S = 10.0
_STORED_EVERY_S = 0.002
_MARKS = 8192
_REPEAT_S = 5.0

_log = logging.getLogger(__name__)


class State(enum.Enum):
    """How far the gate is closed; the value is what a person reads."""

    SERVED = "opens and reads are served"
    OPENS_REFUSED = "new opens are refused; files that are open can still be read"
    READS_REFUSED = "opens and reads are refused"
    STOPPING = "opens and reads are refused, and the instance is being stopped"


class Guard:
    """Watches one spool; `look` brings it up to date, and `start` has that done for ever."""

    def __init__(
        self,
        spool: Spool,
        directory: str,
        limits: Limits,
        *,
        take_notes: Callable[[Notes], None] = lambda notes: None,
        clock: Callable[[], float] = read_clock,
    ) -> None:
        """Guard *spool* in *directory*; *take_notes* gets the agent's notes at each look."""
        self._spool = spool
        self._directory = directory
        self._limits = limits
        self._take_notes = take_notes
        self._clock = clock
        self._marks: deque[tuple[int, float]] = deque()
        self._ack = 0
        self._said_s = 0.0
        self.notes = Notes()
        self.state = State.SERVED
        self.why = ""
        self.oldest_s = 0.0
        self._since_us = now_us()
        self._begin()
        self.look()

    def start(self) -> None:
        """Look again and again, in a thread that ends with the process."""
        threading.Thread(target=self._look_for_ever, name="guard", daemon=True).start()

    @property
    def refuses_opens(self) -> bool:
        """Whether nothing may be opened now."""
        return self.state is not State.SERVED

    def is_withdrawn(self, dataset: str) -> bool:
        """Return whether the owner may no longer open *dataset*."""
        return dataset in self.notes.withdrawn

    @property
    def refuses_reads(self) -> bool:
        """Whether even an open file may not be read now."""
        return self.state in (State.READS_REFUSED, State.STOPPING)

    def wait_stored(self, seq: int) -> bool:
        """Wait until the hub has stored line *seq*; return whether it has within 10 s."""
        ends_s = time.monotonic() + STORED_WITHIN_S
        while self._ack < seq:
            receipt = find_receipt(self._directory)
            if receipt is not None and receipt.ack >= seq:
                self._ack = max(self._ack, receipt.ack)
                return True
            if time.monotonic() > ends_s:
                return False
            time.sleep(_STORED_EVERY_S)
        return True

    def look(self) -> None:
        """Read the receipt and the notes, and settle the state."""
        now = self._clock()
        receipt = find_receipt(self._directory)
        if receipt is not None:
            self._ack = max(self._ack, receipt.ack)
        self.notes = load_notes(Path(self._directory))
        self._take_notes(self.notes)
        self.oldest_s = self._measure_oldest(now)
        state, why = self._settle(now)
        if state is not self.state:
            self._since_us = now_us()
            _log.warning("%s%s", state.value, f": {why}" if why else "")
        is_news = state is not self.state
        self.state, self.why = state, why
        if is_news or now - self._said_s > _REPEAT_S:
            self._said_s = now
            self._save_state()

    def describe(self) -> bytes:
        """Return the text of AUDIT-STATUS.txt."""
        last, limits = self._spool.next_seq - 1, self._limits
        lines = [
            "Audit of this mount",
            "",
            f"Now        {self.state.value}, since {format_time(self._since_us)}",
            f"Records    {last} written, {min(self._ack, last)} stored by the hub",
        ]
        if self.why:
            lines.append(f"Why        {self.why}")
        if self.notes.withdrawn:
            names = ", ".join(sorted(self.notes.withdrawn))
            lines.append(f"Withdrawn  {names}: no longer granted to you; ask whoever granted it")
        if self.state is not State.SERVED:
            reads_s, stop_s = limits.refuse_reads_after_s, limits.stop_after_s
            lines += [
                "What next  It opens by itself once what is said here has passed. If records wait",
                f"           for {reads_s:g} s, reads are refused too, and after {stop_s:g} s the",
                "           instance is stopped: save your work, and tell your admin. No record",
                "           and no file of yours is lost.",
            ]
        return "\n".join(lines).encode() + b"\n"

    def _begin(self) -> None:
        """Find since when the oldest line waits that a mount before this one has left."""
        now = self._clock()
        receipt = find_receipt(self._directory)
        self._ack = 0 if receipt is None else receipt.ack
        if self._ack + 1 < self._spool.next_seq:
            self._marks.append((self._ack + 1, now - self._read_age_s()))
        self._marks.append((self._spool.next_seq, now))

    def _read_age_s(self) -> float:
        backlog = Backlog(self._directory)
        try:
            if self._ack:
                backlog.move_to(self._ack + 1)
            lines = backlog.peek(1)
            return max(0.0, (now_us() - int(json.loads(lines[0])["ts"])) / 1e6) if lines else 0.0
        except (Conflict, KeyError, ValueError):
            return 0.0  # A receipt that does not fit the spool: the shipper says what is wrong.

    def _measure_oldest(self, now: float) -> float:
        """Return how long the oldest line that is not acknowledged has been waiting."""
        next_seq = self._spool.next_seq
        if self._marks[-1][0] == next_seq:
            # Nothing was written since: what comes next is no older than now.
            self._marks.pop()
        self._marks.append((next_seq, now))
        while len(self._marks) > 1 and self._marks[1][0] <= self._ack + 1:
            self._marks.popleft()
        if len(self._marks) > _MARKS:
            del self._marks[1]
        return 0.0 if self._ack + 1 >= next_seq else now - self._marks[0][1]

    def _settle(self, now: float) -> tuple[State, str]:
        limits, oldest_s = self._limits, self.oldest_s
        waits = f"the hub has not stored the oldest record for {oldest_s:.0f} s"
        if oldest_s > limits.stop_after_s:
            return State.STOPPING, f"{waits}; the limit is {limits.stop_after_s:g} s"
        if oldest_s > limits.refuse_reads_after_s:
            return State.READS_REFUSED, f"{waits}; the limit is {limits.refuse_reads_after_s:g} s"
        if oldest_s > limits.refuse_opens_after_s:
            return State.OPENS_REFUSED, f"{waits}; the limit is {limits.refuse_opens_after_s:g} s"
        percent = self._spool.measure_percent()
        if percent > limits.spool_full_percent:
            limit = limits.spool_full_percent
            return State.OPENS_REFUSED, f"the spool is {percent:.0f} % full; the limit is {limit} %"
        counted_s = self.notes.counted_s
        if limits.counts_egress and (
            counted_s is None or now - counted_s > EGRESS_COUNTED_WITHIN_S
        ):
            return (
                State.OPENS_REFUSED,
                "the rules that count what is sent from here are not in force",
            )
        return State.SERVED, ""

    def _save_state(self) -> None:
        state = {
            "state": self.state.name.lower(),
            "says": self.state.value,
            "why": self.why,
            "since_us": self._since_us,
            "oldest_s": round(self.oldest_s, 1),
            "looked_s": self._said_s,
        }
        path = os.path.join(self._directory, STATE_FILE)
        try:
            Path(f"{path}.new").write_text(json.dumps(state))
            os.replace(f"{path}.new", path)
        except OSError as error:
            _log.error("the state of the guard is not written: %s", error.strerror)

    def _look_for_ever(self) -> None:
        pause = threading.Event()
        while not pause.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:  # noqa: BLE001  # The gate closes: never open for want of a look.
                _log.exception("the guard could not look")
                self.state, self.why = State.OPENS_REFUSED, "the guard of the mount failed"
