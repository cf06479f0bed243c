"""`bin/demo`: a whole Nightingale Hub on this machine, or the researcher's journey as a check."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.demo import cleanup, state
from nightingale_hub.demo.datasets import (
    SeedResult,
    ensure_datasets,
    register_datasets,
    release_datasets,
)
from nightingale_hub.demo.hub import DemoHub
from nightingale_hub.demo.journey import Journey
from nightingale_hub.demo.receipt import format_receipt
from nightingale_hub.errors import NightingaleError, Unavailable

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo until Ctrl-C, or once through with `--smoke`; return the exit code."""
    options = _parse_arguments()
    # All by hand: a shell starts what it puts in the background with SIGINT ignored.
    for number in STOPS:
        signal.signal(number, _interrupt)
    try:
        if options.remove:
            return _remove(options.state)
        if options.smoke:
            return _smoke(options)
        return _serve(options)
    except NightingaleError as error:
        print(f"bin/demo: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"bin/demo: {where}{error.strerror or error}", file=sys.stderr)
        return NightingaleError.exit_code
    except KeyboardInterrupt:
        return 130


def say(message: str) -> None:
    """Print a step as it happens to stderr, with the seconds since the demo began."""
    # A terminal that was closed takes no more words; stopping goes on.
    with suppress(OSError):
        print(f"[{time.monotonic() - _STARTED:5.1f} s] {message}", file=sys.stderr, flush=True)


_STARTED = time.monotonic()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/demo", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="do the researcher's journey once and print a receipt"
    )
    parser.add_argument("--json", action="store_true", help="with --smoke: the receipt as JSON")
    parser.add_argument(
        "--port", type=_parse_port, help="port of the hub (default: 8000, else a free one)"
    )
    parser.add_argument("--db", metavar="URL", help="database (default: SQLite in the directory)")
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="directory of the demo's data (default: .demo beside the virtual environment)",
    )
    parser.add_argument(
        "--remove", action="store_true", help="remove the demo's data and system users, then end"
    )
    return parser.parse_args()


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 65535")
    return int(text)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _ASKED.append(_number)
    raise KeyboardInterrupt


_ASKED: list[int] = []


def _end_if_asked() -> None:
    # Python drops an exception raised in a destructor, and a handler may run in one: ask again.
    if _ASKED:
        raise KeyboardInterrupt


@contextmanager
def _running(directory: Path, options: argparse.Namespace) -> Iterator[tuple[DemoHub, SeedResult]]:
    held = state.lock(directory)
    try:
        made = state.prepare(directory, options.port, options.db)
        try:
            seed = _seed(directory, made.db_url)
            say("starting the hub and its five services")
            hub = DemoHub(directory, made)
            try:
                hub.wait_until_ready()
                _end_if_asked()
                yield hub, seed
            finally:
                # A second Ctrl-C must not leave an instance behind.
                for number in STOPS:
                    signal.signal(number, signal.SIG_IGN)
                say("stopping")
                hub.stop(say)
        finally:
            release_datasets(directory / "datasets")
    finally:
        os.close(held)


def _seed(directory: Path, db_url: str) -> SeedResult:
    say("creating the database")
    database = Database(db_url)
    try:
        database.upgrade()
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", error)).partition("\n")[0]
        raise Unavailable(f"the database {make_url(db_url)} cannot be used: {why}") from error
    seed = ensure_datasets(directory / "datasets")
    for note in seed.notes:
        say(note)
    with database.write() as conn:
        register_datasets(conn, seed, now_us())
    database.dispose()
    return seed


def _serve(options: argparse.Namespace) -> int:
    directory = (options.state or state.default_directory()).absolute()
    with _running(directory, options) as (hub, _seed_result):
        made = hub.state
        try:
            print(
                f"""
Nightingale Hub runs at {made.url}

  researcher   {made.users[0]}     password  {made.user_password}
  admin        {made.admin}   password  {made.admin_password}

Three things to try:
  1. Log in as {made.users[0]}, accept the datasets' terms at {made.url}/services/console/datasets ,
     then choose a size, see its price, start the server.
  2. In JupyterLab open a terminal: ls datasets; nightingale status; nightingale cost
  3. See each read and the cost at {made.url}/services/console/ , then: nightingale stop

Ctrl-C stops the hub and every instance.  Log: {hub.log_path}
""",
                flush=True,
            )
            while hub.is_running():
                _end_if_asked()
                time.sleep(0.5)
        except KeyboardInterrupt:
            return 0
    print(f"bin/demo: the hub ended by itself; see {hub.log_path}", file=sys.stderr)
    return 1


def _smoke(options: argparse.Namespace) -> int:
    parent = options.state or state.default_directory().parent
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".demo-smoke-", dir=parent)).absolute()
    directory.chmod(0o711)  # system users pass through to their homes
    passed = False
    try:
        with _running(directory, options) as (hub, seed):
            receipt = Journey(hub.state, say).run()
        receipt.note_storage(seed.kind)
        receipt.check("nothing is left behind", cleanup.list_leftovers(directory), [])
        print(format_receipt(receipt, as_json=options.json))
        passed = receipt.passed
        return 0 if passed else 1
    finally:
        if passed:
            cleanup.remove(directory)
        else:
            say(f"kept for a look: {directory} (bin/demo --remove --state {directory})")


def _remove(directory: Path | None) -> int:
    directory = (directory or state.default_directory()).absolute()
    if not (directory / "demo.json").exists():
        print(f"bin/demo: no demo in {directory}; nothing was removed", file=sys.stderr)
        return 4
    held = state.lock(directory)
    try:
        cleanup.check_idle(directory)
        release_datasets(directory / "datasets")
        cleanup.remove(directory)
    finally:
        os.close(held)
    say(f"removed {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
