"""What an instance keeps looking at for its audit mount, and tells it by its notes.

Which datasets the owner may still open, asked of the hub every two seconds, and how much was sent,
counted every ten. A hub that does not answer withdraws nothing: what is then to be refused the
guard of the mount knows by itself. This runs in a thread of its own and waits for the hub.
"""

import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from nightingale_hub.audit_notes import Notes, read_clock, save_notes
from nightingale_hub.errors import NightingaleError, Unavailable
from nightingale_hub.instance.egress import Egress
from nightingale_hub.instance.hub import get_message, post

ASK_EVERY_S = 2.0
COUNT_EVERY_S = 10.0
ANSWER_WITHIN_S = 5.0

log = logging.getLogger(__name__)


class Watch:
    """The watch of one boot."""

    def __init__(
        self,
        spool: Path,
        mounted: Collection[str],
        ask_granted: Callable[[], set[str]],
        egress: Egress | None,
        report: Callable[[str], None],
    ) -> None:
        """Tell the mount with *spool*, which serves the datasets *mounted*.

        *ask_granted* returns which datasets are granted now, or raises `Unavailable`. What is
        amiss with *egress* goes to *report*.
        """
        self._spool = spool
        self._mounted = frozenset(mounted)
        self._ask_granted = ask_granted
        self._egress = egress
        self._report = report
        self._notes = Notes()
        self._counted_s = float("-inf")
        self._is_counting = True
        self._ends = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Count once, so that the mount is served from its first moment, then look for ever."""
        self._spool.mkdir(mode=0o700, exist_ok=True)
        self._count()
        save_notes(self._spool, self._notes)
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def end(self) -> None:
        """Look no more, and count what was sent up to now; waits for no hub."""
        with self._lock:
            self._ends.set()
            self._count()
            save_notes(self._spool, self._notes)

    def look(self) -> None:
        """Ask what is granted and, if it is time, count; tell the mount what is new."""
        withdrawn = self._notes.withdrawn
        try:
            withdrawn = self._mounted - self._ask_granted()
        except Unavailable as error:
            log.info("grants: %s", error)
        with self._lock:
            if self._ends.is_set():
                return
            before = self._notes
            self._notes = before._replace(withdrawn=withdrawn)
            if read_clock() - self._counted_s >= COUNT_EVERY_S:
                self._count()
            if self._notes != before:
                save_notes(self._spool, self._notes)
        for name in sorted(withdrawn - before.withdrawn):
            log.warning("dataset %s is no longer granted", name)

    def _count(self) -> None:
        self._counted_s = read_clock()
        if self._egress is None:
            return
        sent = self._egress.read()
        if sent is not None:
            sums = tuple(sorted(sent.items()))
            self._notes = self._notes._replace(sent=sums, counted_s=self._counted_s)
        else:
            # Nothing is known to be counted now: the gate closes at once, not when a count is late.
            self._notes = self._notes._replace(counted_s=None)
            if self._is_counting:
                self._report(
                    "egress_uncounted the rules that count what is sent are not as they were"
                )
        self._is_counting = sent is not None

    def _run(self) -> None:
        while not self._ends.wait(ASK_EVERY_S):
            try:
                self.look()
            except (NightingaleError, OSError):
                log.exception("the watch could not look")


def ask_granted(hub_url: str, credential: str) -> set[str]:
    """Return the datasets that the owner of *credential*'s instance may open now.

    Raises `Unavailable` unless the hub says which.
    """
    url = f"{hub_url}services/supervisor/api/grants"
    status, answer = post(url, {}, credential, ANSWER_WITHIN_S)
    names = answer.get("datasets")
    if status != 200 or not isinstance(names, list):
        raise Unavailable(f"the hub answered {status} {get_message(answer)}".strip())
    return {str(name) for name in names}
