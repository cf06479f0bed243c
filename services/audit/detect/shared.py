"""One sweep by several people: each reads a part of a dataset, and together they have it all."""

from collections.abc import Mapping

from nightingale_hub.services.audit.detect import counts
from nightingale_hub.services.audit.detect.checks import is_sweep
from nightingale_hub.services.audit.detect.counts import total
from nightingale_hub.services.audit.detect.reader import Reader
from nightingale_hub.services.audit.detect.rules import MIN_PER_DAY, MIN_PER_WEEK, Rules


def find_parts(
    readers: Mapping[str, Reader], files: int, at: int, rules: Rules
) -> list[tuple[str, int]]:
    """Return who reads a part of one sweep at minute *at*, each with when their part began.

    People who train on the same data read the same files; parts of one copy hardly overlap.
    """
    if files < rules.sweep_least_files or len(readers) < 2:
        return []
    for minutes in (MIN_PER_DAY, MIN_PER_WEEK):
        firsts = {owner: max(at - minutes + 1, each.cleared + 1) for owner, each in readers.items()}
        parts = [
            owner
            for owner, each in readers.items()
            if is_sweep(each, firsts[owner], at, files, rules.part_least_share, rules)
        ]
        amounts = [total(readers[owner].seen, firsts[owner], at) for owner in parts]
        if len(parts) < 2 or sum(amounts) <= rules.sweep_share * files:
            continue
        union: set[int] = set()
        for owner in parts:
            known = readers[owner].files
            union.update(key for key, file in known.items() if file.last >= firsts[owner])
        if len(union) <= rules.sweep_share * files:
            continue
        if 1 - len(union) / sum(amounts) <= rules.part_most_overlap:
            return [
                (owner, counts.oldest(readers[owner].new, firsts[owner], at) or at)
                for owner in parts
            ]
    return []
