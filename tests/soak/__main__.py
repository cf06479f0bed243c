"""`bin/soak NAME [--sample N] [--seed N]`: exit 0 all well, 1 something broke, 2 wrong name.

A full run writes what it found to docs/soak/NAME.md; a sample only prints it.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.soak import audit, aws, billing, detectors, log, supervisors, upstream

Soak = Callable[[int | None, int], tuple[str, bool]]  # sample and seed to a text, and all is well

SOAKS: Mapping[str, Soak] = {
    "audit": audit.run,
    "billing": billing.run,
    "detectors": detectors.run,
    "log": log.run,
    "supervisors": supervisors.run,
    "supervisors-aws-starts": aws.run_starts,
    "supervisors-aws-changes": aws.run_changes,
    "upstream": upstream.run,
}
RESULTS = Path(__file__).parents[2] / "docs" / "soak"


def main(arguments: list[str], soaks: Mapping[str, Soak] = SOAKS) -> int:
    """Run the one that *arguments* name; return the exit status."""
    known = ", ".join(sorted(soaks))
    parser = argparse.ArgumentParser(prog="bin/soak", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"one of: {known}")
    parser.add_argument("--sample", type=int, metavar="N", help="only N cases, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: 1")
    options = parser.parse_args(arguments)
    if options.name not in soaks:
        print(f"bin/soak: there is no {options.name}; there is: {known}", file=sys.stderr)
        return 2
    text, is_well = soaks[options.name](options.sample, options.seed)
    print(text)
    if options.sample is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{options.name}.md").write_text(text)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
