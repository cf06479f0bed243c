"""R4, slow drip: a little that is new each day, and none of it again, summed over a week.

A CUSUM: each day adds what is new of it, in units of half a percent of the dataset and at most
four, less a half; what is read again that day takes its share away. The sum never falls below 0.
"""

from nightingale_hub.services.audit.detect.counts import total
from nightingale_hub.services.audit.detect.reader import Reader
from nightingale_hub.services.audit.detect.rules import MIN_PER_DAY, Rules

DAYS = 7


def sum_drip(reader: Reader, at: int, files: int, rules: Rules) -> tuple[float, int]:
    """Return the sum over the seven days up to minute *at*, and on how many of them files were new.

    *files* is how many the dataset has; with 0, which is unknown, nothing is summed.
    """
    if not files:
        return 0.0, 0
    unit = max(rules.drip_day_share * files, 1.0)
    summed, days = 0.0, 0
    for ago in reversed(range(DAYS)):
        last = at - ago * MIN_PER_DAY
        first = max(last - MIN_PER_DAY + 1, reader.cleared + 1)
        new = total(reader.new, first, last)
        again = total(reader.again, first, last)
        novelty = new / (new + again) if new else 0.0
        grown = min(rules.drip_cap, new / unit) * novelty
        days += new >= unit / 2
        summed = max(0.0, summed + grown - rules.drip_slack)
    return summed, days
