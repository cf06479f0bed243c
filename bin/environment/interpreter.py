"""Which Python may make the environment.

As root the hub runs each researcher's server as a system user, so the interpreter must lie where
every user can reach it: one under a home directory of mode 0700 does not do.
"""

import os
import sys
from pathlib import Path


def is_open_to_all(path: Path) -> bool:
    """Return whether every user can read *path* and walk to it."""
    real = path.resolve()
    if not real.stat().st_mode & 0o004:
        return False
    return all(parent.stat().st_mode & 0o001 for parent in real.parents)


def is_fit() -> bool:
    """Return whether the running interpreter can serve every user that it must."""
    if sys.version_info < (3, 11):  # noqa: UP036 - asks the Python at hand, before anything chose it
        return False
    return os.geteuid() != 0 or (
        is_open_to_all(Path(sys.executable)) and is_open_to_all(Path(os.__file__))
    )


if __name__ == "__main__":
    sys.exit(not is_fit())
