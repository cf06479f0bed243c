"""`python -m nightingale_hub.fuse_audit mount.json`: serve one audit mount in the foreground.

Prints `{"mounted": path, "how": ...}` once it serves. SIGTERM unmounts and exits 0. What refuses
the mount is one line on stderr, with the exit code of its error: 8 when it cannot be made, 9 for
a wrong setting.
"""

import argparse
import logging
import sys

from nightingale_hub.errors import NightingaleError
from nightingale_hub.fuse_audit import daemon, supervisor
from nightingale_hub.fuse_audit.configuration import load_configuration


def main(arguments: list[str] | None = None) -> int:
    """Serve the mount that *arguments* name, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nightingale_hub.fuse_audit", description="Serve one audit mount."
    )
    parser.add_argument("configuration", help="mount.json: what is mounted where, for whom")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        configuration = load_configuration(options.configuration)
        if configuration.adapter == "libfuse":
            daemon.serve_libfuse(configuration)
            return 0
        return supervisor.run(configuration)
    except NightingaleError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
