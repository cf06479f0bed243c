"""The shipper: brings each line of a spool to the audit service, in order, until it is
acknowledged there.

The law: nothing leaves the spool before the service says that it is durable, and whatever is not
known to be stored is sent again; the service takes a line that it has for what it is. An outage
is waited out with growing, jittered pauses. What waiting cannot heal (a contradiction, a refused
credential) stops the shipper, loudly, with the spool as it is.
"""

import logging
import random
import time
from collections.abc import Callable

from nightingale_hub.errors import Conflict, NightingaleError, NotAllowed, Unavailable
from nightingale_hub.fuse_audit.backlog import Backlog
from nightingale_hub.fuse_audit.upload import Answer, Upload

POLL_S = 0.1
GATHER_S = 0.25
ENOUGH_LINES = 1000
MOST_LINES = 5000
SHORTEST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# Between two tries of a drain, which is short itself.
_DRAIN_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


class Shipper:
    """Ships one backlog through one upload until it is told to stop."""

    def __init__(self, backlog: Backlog, upload: Upload, wait: Callable[[float], bool]) -> None:
        """Ship *backlog* through *upload*; *wait* waits so many seconds, or until told to stop.

        It returns whether that has happened.
        """
        self._backlog = backlog
        self._upload = upload
        self._most_lines = MOST_LINES
        self._failures = 0
        self._wait = wait

    def run(self) -> None:
        """Ship until told to stop and nothing is left. Raises what waiting cannot heal."""
        while True:
            # Asked before the backlog is: what is written before the signal is still shipped.
            is_stopping = self._wait(0)
            lines = self._gather()
            if lines:
                self._ship(lines)
            elif is_stopping:
                return
            else:
                self._wait(POLL_S)

    def _gather(self) -> list[bytes]:
        """Return the next batch; a small one waits a moment for company."""
        lines = self._backlog.peek(self._most_lines)
        enough = min(ENOUGH_LINES, self._most_lines)
        if 0 < len(lines) < enough and not self._wait(GATHER_S):
            lines = self._backlog.peek(self._most_lines)
        return lines

    def _ship(self, lines: list[bytes]) -> None:
        first_seq = self._backlog.next_seq
        try:
            answer = self._upload.send(first_seq, lines)
        except Unavailable as error:
            self._pause(str(error), 0)
            return
        code = answer.error.get("code")
        if answer.status == 200:
            self._acknowledge(answer, first_seq)
        elif answer.status == 409 and code == "gap":
            _log.warning("the audit service asks for line %s", answer.error.get("expect"))
            self._backlog.move_to(int(answer.error["expect"]))
            # A service that asks for the same line for ever is an outage, not a loop.
            self._pause("it has a gap", 0)
        elif answer.status == 413 and len(lines) > 1:
            self._most_lines = max(1, len(lines) // 2)
        elif answer.status == 429 or answer.status >= 500:
            self._pause(f"the audit service said {answer.status}", answer.retry_after_s)
        else:
            raise _explain(answer, first_seq)

    def _acknowledge(self, answer: Answer, first_seq: int) -> None:
        ack = answer.body.get("ack")
        if not isinstance(ack, int) or ack < first_seq:
            self._pause(f"the audit service acknowledged {ack!r}, not {first_seq}", 0)
            return
        self._backlog.acknowledge(ack)
        if self._failures:
            _log.info("the audit service answers again")
        self._failures = 0

    def _pause(self, reason: str, at_least_s: float) -> None:
        longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2**self._failures)
        # Half of it is random, so that a fleet does not come back all at once.
        pause_s = max(longest * random.uniform(0.5, 1), at_least_s)  # noqa: S311  # No secret.
        self._failures = min(self._failures + 1, 16)
        _log.warning("%s; next try in %.1f s", reason, pause_s)
        if self._wait(pause_s):
            time.sleep(min(pause_s, _DRAIN_PAUSE_S))


def _explain(answer: Answer, first_seq: int) -> NightingaleError:
    said = answer.error.get("message") or answer.body or "no reason"
    reason = f"the audit service refused line {first_seq} and on ({answer.status}): {said}"
    if answer.status in (401, 403):
        return NotAllowed(f"{reason}; give the shipper a valid credential")
    return Conflict(f"{reason}; keep the spool and tell the operator")
