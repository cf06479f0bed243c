"""`python -m nightingale_hub.fuse_audit mount.json`: serve one audit mount in the foreground.

Prints `{"mounted": path, "how": ...}` once it serves. SIGTERM unmounts and exits 0. What refuses
the mount is one line on stderr, with the exit code of its error: 8 when it cannot be made, 9 for
a wrong setting.
"""

import argparse
import logging
import sys

from nightingale_hub.errors import NightingaleError
from nightingale_hub.fuse_audit.configuration import load_configuration
from nightingale_hub.fuse_audit.daemon import run


def main() -> int:
    """Serve the mount that the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nightingale_hub.fuse_audit", description="Serve one audit mount."
    )
    parser.add_argument("configuration", help="mount.json: what is mounted where, for whom")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        run(load_configuration(arguments.configuration))
    except NightingaleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
