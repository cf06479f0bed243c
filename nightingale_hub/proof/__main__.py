"""`python verifier.pyz BUNDLE [--witness FOLDER] [--key KEY]`: the verifier without a hub."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nightingale_hub.proof.verify import format_verdict, verify_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict; return 0 when the log holds, 1 when it was edited, 2 for wrong input."""
    parser = argparse.ArgumentParser(description="Verify a bundle of the audit log, offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--witness", type=Path, help="the folder that a witness keeps")
    parser.add_argument(
        "--key", help="the log's key as the witness knows it; default: the bundle's"
    )
    options = parser.parse_args(arguments)
    try:
        verdict = verify_file(options.bundle, options.witness, options.key)
    except ValueError as error:
        print(f"audit_verify: {error}", file=sys.stderr)
        return 2
    print(format_verdict(verdict))
    return 1 if verdict.problems else 0


def run() -> None:
    """Run as the entry of one file, whose caller sees the exit status."""
    sys.exit(main())


if __name__ == "__main__":
    sys.exit(main())
