"""`bin/bench [NAME ...] [--quick] [--json]`: exit 0 all met, 1 something missed, 2 wrong name."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping

from tests.bench import (
    audit,
    billing,
    detectors,
    index,
    log,
    supervisors,
    training,
)
from tests.bench.frame import Report, format_report

Bench = Callable[[bool], Report]  # told whether to be quick

BENCHES: Mapping[str, Bench] = {
    "audit": audit.run,
    "billing": billing.run,
    "detectors": detectors.run,
    "index-postgresql": index.run_postgresql,
    "index-sqlite": index.run_sqlite,
    "log": log.run,
    "supervisors": supervisors.run,
    "training": training.run,
}


def main(arguments: list[str], benches: Mapping[str, Bench] = BENCHES) -> int:
    """Run the benchmarks that *arguments* name, or all; return the exit status."""
    known = ", ".join(sorted(benches))
    parser = argparse.ArgumentParser(prog="bin/bench", description="Benchmarks beside their peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {known} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, wider spreads")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(benches))
    if unknown:
        print(f"bin/bench: no benchmark {', '.join(unknown)}; there is: {known}", file=sys.stderr)
        return 2
    reports = [benches[name](options.quick) for name in options.names or sorted(benches)]
    if options.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        print("\n\n".join(format_report(report) for report in reports))
    return 0 if all(report.passed for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
