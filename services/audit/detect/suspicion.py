"""A suspicion: much was read once. Training reads it again, and then nothing was wrong.

Nobody's word, program or name decides which of the two it is, only what is read and sent out:

- most of it is read again, as a second pass with other files between: it is an epoch, cleared;
- half of it or more leaves the instance: it is a copy, raised at once;
- nothing more comes for as long as the sweep took (twice that, unless it went in the order of
  names; a quarter of an hour at least, six hours at most): it is a copy, raised.

Who wants to pass a copy off as training has to read half of it twice, and cannot send it out.
"""

import msgspec

from nightingale_hub.services.audit.detect import counts
from nightingale_hub.services.audit.detect.counts import Minutes, total
from nightingale_hub.services.audit.detect.reader import Reader
from nightingale_hub.services.audit.detect.rules import Rules


class Suspicion(msgspec.Struct):
    """One rule's open question about one person and dataset."""

    rule: str
    since: int  # minutes: when what is suspected began
    opened: int
    is_shared: bool = False  # several people read a part each


CLEARED = "cleared"
RAISED = "raised"


def judge(
    suspicion: Suspicion, reader: Reader, out_bytes: Minutes, at: int, rules: Rules
) -> str | None:
    """Return what became of *suspicion* at minute *at*: `CLEARED`, `RAISED` or None, not yet."""
    since = suspicion.since
    is_files = suspicion.rule == "R2"
    once = reader.new if is_files else reader.fresh_bytes
    again = reader.again if is_files else reader.again_bytes
    amount = total(once, since, at)
    if total(again, since, at) >= rules.epoch_again_share * amount:
        return CLEARED
    sent = total(out_bytes, since, at)
    if sent >= max(rules.out_share * total(reader.fresh_bytes, since, at), rules.out_least_bytes):
        return RAISED
    ended = counts.newest(once, since, at) or at
    active = max(ended, counts.newest(again, since, at) or 0)
    took = ended - since + 1
    wait = took if is_ordered(reader, since, ended, rules) else 2 * took
    grace = min(max(wait, rules.grace_least), rules.grace_most)
    limit = ended + max(2 * took, rules.grace_most)
    return RAISED if at >= min(active + grace, limit) else None


def is_ordered(reader: Reader, since: int, until: int, rules: Rules) -> bool:
    """Tell whether files were read in the order of their names, each process by itself."""
    steps = total(reader.steps, since, until)
    return steps > 0 and total(reader.ascending, since, until) >= rules.ordered_share * steps
