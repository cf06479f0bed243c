"""Ensures the environment for the groups named (`demo`, `test`) and prints where to run."""

import os
import sys
from pathlib import Path

from environment.checkout import COPIES, find_home, prune_copies, sync_copy
from environment.packages import ensure_environment, locked
from environment.progress import StepFailed, say

GROUPS = {"demo", "test"}


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    if not set(arguments) <= GROUPS:
        say(f"usage: bin/setup [{'] ['.join(sorted(GROUPS))}]")
        return 2
    os.umask(0o022)  # what is made here is read by researchers' own system users
    root = Path(__file__).resolve().parents[2]
    home = find_home(root)
    try:
        with locked(home):
            if home != root:
                say(f"{root} is closed to other users; running from a copy in {home}")
                sync_copy(root, home)
                for pruned in prune_copies(COPIES):
                    say(f"{pruned} was of a checkout that is gone; deleted")
            ensure_environment(home, {"demo", *arguments})
    except (StepFailed, OSError) as failure:
        say(f"setup: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
