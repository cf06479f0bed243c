"""The shipper: brings each line of a spool to the audit service, in order, until it is
acknowledged there.

The law: nothing leaves the spool before the service says that it is durable, and whatever is not
known to be stored is sent again, as the same sealed batch; the service takes what it has for what
it is. An outage is waited out with growing, jittered pauses, in which lines are sealed as ever.
What waiting cannot heal (a contradiction, a refused credential) stops the shipper, loudly, with
the spool as it is.
"""

import logging
import random
import time
from collections.abc import Callable

from nightingale_hub.audit_chain import Seal, Signer
from nightingale_hub.errors import Conflict, NightingaleError, NotAllowed, Unavailable
from nightingale_hub.fuse_audit.backlog import Backlog
from nightingale_hub.fuse_audit.receipt import save_receipt
from nightingale_hub.fuse_audit.seals import Seals
from nightingale_hub.fuse_audit.upload import Answer, Upload

POLL_S = 0.1
URGENT_POLL_S = 0.005
GATHER_S = 0.25
ENOUGH_LINES = 1000
MOST_LINES = 5000
SHORTEST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
SEAL_EVERY_S = 1.0
# Between two tries of a drain, which is short itself.
_DRAIN_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


class Shipper:
    """Ships one spool through one upload until it is told to stop."""

    def __init__(
        self,
        spool: str,
        signer: Signer,
        seals: Seals,
        upload: Upload,
        wait: Callable[[float], bool],
        *,
        is_urgent: bool = False,
    ) -> None:
        """Ship *spool*, whose lines *seals* seals, through *upload*.

        *wait* waits so many seconds, or until told to stop, and returns whether that has happened.
        With *is_urgent* no line waits for company.
        """
        self._spool = spool
        self._backlog = Backlog(spool)
        self._unsealed = Backlog(spool)
        self._signer = signer
        self._seals = seals
        self._upload = upload
        self._most_lines = MOST_LINES
        self._failures = 0
        self._is_open = False
        self._wait = wait
        self._gather_s = 0.0 if is_urgent else GATHER_S
        self._poll_s = URGENT_POLL_S if is_urgent else POLL_S

    @property
    def next_seq(self) -> int:
        """The number of the first line that is not acknowledged; 0 before any is there."""
        return self._backlog.next_seq

    def run(self) -> None:
        """Ship until told to stop and nothing is left. Raises what waiting cannot heal."""
        while True:
            # Asked before the backlog is: what is written before the signal is still shipped.
            is_stopping = self._wait(0)
            if is_stopping and not self._backlog.peek(1):
                return
            if not self._is_open and not self._open():
                continue
            batch = self._gather()
            if batch:
                self._ship(*batch)
            else:
                self._wait(self._poll_s)

    def _gather(self) -> tuple[Seal, list[bytes]] | None:
        """Return the next batch, sealed; a small one waits a moment for company."""
        if not self._backlog.peek(1):
            return None
        seal = self._seals.find(self._backlog.next_seq)
        if seal is None:
            enough = min(ENOUGH_LINES, self._most_lines)
            if len(self._backlog.peek(self._most_lines)) < enough:
                self._wait(self._gather_s)
            self._seal()
            seal = self._seals.find(self._backlog.next_seq)
            assert seal is not None, "what is there to be read was just sealed"
        if seal.first_seq != self._backlog.next_seq:
            # An acknowledgement of a part: the rest goes with the batch that it was sealed in.
            self._backlog.move_to(seal.first_seq)
        lines = self._backlog.peek(seal.last_seq - seal.first_seq + 1)
        self._seals.check(seal, lines)
        return seal, lines

    def _seal(self) -> None:
        """Seal the lines that are not sealed yet, as far as they go into one batch."""
        if not self._unsealed.peek(1):
            return
        if self._unsealed.next_seq != self._seals.next_seq:
            self._unsealed.move_to(self._seals.next_seq)
        lines = self._unsealed.peek(self._most_lines)
        if lines:
            self._seals.seal(lines)
            self._unsealed.move_to(self._seals.next_seq)

    def _open(self) -> bool:
        """Announce the stream's key; return whether the service took it."""
        try:
            answer = self._upload.open(self._signer)
        except Unavailable as error:
            self._pause(str(error), 0)
            return False
        if answer.status == 429 or answer.status >= 500:
            self._pause(f"the audit service said {answer.status}", answer.retry_after_s)
            return False
        # A service that takes no key yet has no such address, and takes batches without.
        if answer.status != 200 and answer.error:
            raise _explain(answer, "the key of its stream")
        self._is_open = True
        return True

    def _ship(self, seal: Seal, lines: list[bytes]) -> None:
        try:
            answer = self._upload.send(seal, lines)
        except Unavailable as error:
            self._pause(str(error), 0)
            return
        code = answer.error.get("code")
        if answer.status == 200:
            self._acknowledge(answer, seal.first_seq)
        elif answer.status == 409 and code == "gap":
            _log.warning("the audit service asks for line %s", answer.error.get("expect"))
            self._backlog.move_to(int(answer.error["expect"]))
            # A service that asks for the same line for ever is an outage, not a loop.
            self._pause("it has a gap", 0)
        elif answer.status == 409 and code == "not_open":
            self._is_open = False
            self._pause("it does not know the stream", 0)
        elif answer.status == 413 and len(lines) > 1:
            self._most_lines = max(1, len(lines) // 2)
            self._seals.reopen(seal.first_seq)
            self._unsealed.move_to(seal.first_seq)
        elif answer.status == 429 or answer.status >= 500:
            self._pause(f"the audit service said {answer.status}", answer.retry_after_s)
        else:
            raise _explain(answer, f"line {seal.first_seq} and on")

    def _acknowledge(self, answer: Answer, first_seq: int) -> None:
        ack = answer.body.get("ack")
        if not isinstance(ack, int) or ack < first_seq:
            self._pause(f"the audit service acknowledged {ack!r}, not {first_seq}", 0)
            return
        self._backlog.acknowledge(ack)
        self._seals.forget(ack + 1)
        save_receipt(self._spool, ack)
        if self._failures:
            _log.info("the audit service answers again")
        self._failures = 0

    def _pause(self, reason: str, at_least_s: float) -> None:
        longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2**self._failures)
        # Half of it is random, so that a fleet does not come back all at once.
        pause_s = max(longest * random.uniform(0.5, 1), at_least_s)  # noqa: S311  # No secret.
        self._failures = min(self._failures + 1, 16)
        _log.warning("%s; next try in %.1f s", reason, pause_s)
        ends_s = time.monotonic() + pause_s
        while (left_s := ends_s - time.monotonic()) > 0:
            if self._wait(min(left_s, SEAL_EVERY_S)):
                time.sleep(min(left_s, _DRAIN_PAUSE_S))
                return
            self._seal()


def _explain(answer: Answer, what: str) -> NightingaleError:
    said = answer.error.get("message") or answer.body or "no reason"
    reason = f"the audit service refused {what} ({answer.status}): {said}"
    if answer.status in (401, 403):
        return NotAllowed(f"{reason}; give the shipper a valid credential")
    return Conflict(f"{reason}; keep the spool and tell the operator")
