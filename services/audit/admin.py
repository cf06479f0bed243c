"""`python -m nightingale_hub.services.audit.admin`: what an administrator does to the audit log.

It reads the settings that the hub hands to a service, or takes --state-dir and --db-url. What
changes anything stands in the log itself, with who did it.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.errors import BadInput, NightingaleError, NotFound
from nightingale_hub.instances import find
from nightingale_hub.lease import take_lease
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.services.audit.bundle import export_bundle
from nightingale_hub.services.audit.log import LogSigner
from nightingale_hub.services.audit.rebuild import rebuild
from nightingale_hub.services.audit.segments import Segments
from nightingale_hub.services.audit.sender import revoke
from nightingale_hub.settings import ENVIRONMENT_NAME, NightingaleHub


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        settings = load_settings(options)
        db = Database(settings.db_url)
        try:
            options.run(options, settings, db)
        finally:
            db.dispose()
    except NightingaleError as error:
        print(f"audit admin: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, SQLAlchemyError) as error:
        print(f"audit admin: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="audit admin", description="Administer the audit log.")
    parser.add_argument("--state-dir", help="the hub's c.NightingaleHub.state_dir")
    parser.add_argument("--db-url", help="the hub's c.NightingaleHub.db_url")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    export = commands.add_parser(
        "export", help="write a bundle that `nightingale audit verify` takes"
    )
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument(
        "--lines-from", type=int, default=1, metavar="N", help="without lines of batches before N"
    )
    export.set_defaults(run=run_export)
    again = commands.add_parser("rebuild", help="make every row anew from the segment files")
    again.set_defaults(run=run_rebuild)
    key = commands.add_parser("key", help="print the log's public key, for a witness to keep")
    key.set_defaults(run=run_key)
    end = commands.add_parser("revoke", help="take nothing of an instance any more")
    end.add_argument("instance")
    end.add_argument("--reason", required=True)
    end.set_defaults(run=run_revoke)
    return parser


def load_settings(options: argparse.Namespace) -> NightingaleHub:
    """Return the settings that *options* or the environment give; raises `BadInput`."""
    if options.state_dir is None and ENVIRONMENT_NAME in os.environ:
        return NightingaleHub.from_environment()
    if options.state_dir is None or not Path(options.state_dir).is_dir():
        raise BadInput("give --state-dir, the folder that c.NightingaleHub.state_dir names")
    given = {"state_dir": options.state_dir, "db_url": options.db_url}
    return NightingaleHub.from_dict({name: value for name, value in given.items() if value})


def run_export(options: argparse.Namespace, settings: NightingaleHub, db: Database) -> None:
    """Write a bundle; what is missing in it is said."""
    if options.file.exists():
        raise BadInput(f"{options.file} exists; name a new file")
    segments = Segments(settings.state_path / "audit" / "segments", epoch=0)
    said = {"by": getpass.getuser(), "lines_from": options.lines_from}
    db.transact(lambda conn: append_leaf(conn, "admin_export", said, now_us()))
    with db.read() as conn:
        missing = export_bundle(
            conn, segments, LogSigner(settings).key, options.file, now_us(), options.lines_from
        )
    for each in missing:
        print(f"missing: {each}", file=sys.stderr)
    print(f"wrote {options.file}")


def run_rebuild(_options: argparse.Namespace, settings: NightingaleHub, db: Database) -> None:
    """Rebuild; the running audit service ends first, since its lease is taken."""
    db.upgrade()
    by = getpass.getuser()

    def work(conn: Connection) -> list[str]:
        take_lease(conn, "audit", f"rebuild by {by}", now_us())
        append_leaf(conn, "admin_rebuild", {"by": by}, now_us())
        return rebuild(conn, settings.state_path / "audit" / "segments")

    for stream_id in db.transact(work):
        print(f"left out: stream {stream_id} is of no known instance", file=sys.stderr)
    print("rebuilt; restart the hub's audit service, which indexes what was found")


def run_key(_options: argparse.Namespace, settings: NightingaleHub, _db: Database) -> None:
    """Print the key."""
    print(LogSigner(settings).key.format())


def run_revoke(options: argparse.Namespace, _settings: NightingaleHub, db: Database) -> None:
    """Revoke an instance's credential; raises `NotFound` for one that there is not."""

    def work(conn: Connection) -> bool:
        if find(conn, options.instance) is None:
            raise NotFound(f"no instance {options.instance}")
        return revoke(conn, options.instance, getpass.getuser(), options.reason, now_us())

    print("revoked" if db.transact(work) else "was revoked before")


if __name__ == "__main__":
    sys.exit(main())
