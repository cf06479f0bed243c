"""Recovers what instances that ended have not sent: `python -m nightingale_hub.instance.recover`.

Give it the directories of instances, or with `--all` a folder that holds them: a hub's `instances`,
or a disk that was kept. Whole records are sealed and sent as the instance would have; a torn one at
the end was never answered. It may be killed and run again; an instance that runs is left alone.
Each start of a local instance does this beside it, for all that ended before.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import NightingaleError, Unavailable
from nightingale_hub.instance.detach import find_pids
from nightingale_hub.instance.lock import locked
from nightingale_hub.processes import is_alive, wait_listening

SENT_WITHIN_S = 10.5
SETTINGS = "ship.json"


def drain(directory: Path) -> bool:
    """Send what is left in the spool of *directory*, as far as that goes in 10 s.

    Returns whether all of it is stored by the hub now; the caller holds the instance's lock.
    """
    path = directory / SETTINGS
    settings = find_json(path)
    if settings is None:
        return True
    spool = str(directory / "spool")
    if settings.get("spool") != spool:  # a disk that was kept, at another place
        save_json(path, settings | {"spool": spool})
    command = [sys.executable, "-P", "-m", "nightingale_hub.fuse_audit.ship", str(path)]
    with (directory / "ship.log").open("ab") as log:
        shipper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    wait_listening(shipper.pid, signal.SIGTERM, 5)
    shipper.terminate()  # its word for: send what is there, then end
    try:
        is_sent = shipper.wait(SENT_WITHIN_S) == 0
    except subprocess.TimeoutExpired:
        shipper.kill()
        shipper.wait()
        return False
    if is_sent:
        path.unlink(missing_ok=True)
    return is_sent


def list_left(folder: Path) -> list[Path]:
    """Return the directories in *folder* whose instance has ended and left records."""
    return sorted(path.parent for path in folder.glob(f"*/{SETTINGS}") if _is_over(path.parent))


def recover(directory: Path) -> str:
    """Recover *directory*, and return what became of it, as a line for a person.

    Raises `Unavailable` when records are still left.
    """
    with locked(directory):
        if not (directory / SETTINGS).exists():
            return f"{directory}: nothing is left to send"
        if not _is_over(directory):
            return f"{directory}: runs, and sends by itself"
        if not drain(directory):
            said = (directory / "ship.log").read_text(errors="replace").splitlines()
            raise Unavailable(f"{directory}: not all is sent: {said[-1] if said else 'no answer'}")
    return f"{directory}: all records are stored by the hub"


def start_recovery(folder: Path, environment: Mapping[str, str]) -> None:
    """Recover what is left in *folder*, in a process that belongs to nobody."""
    if list_left(folder):
        subprocess.Popen(
            [sys.executable, "-P", "-m", "nightingale_hub.instance.recover", "--all", str(folder)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _is_over(directory: Path) -> bool:
    pids = find_pids(directory)
    return pids is None or not is_alive(pids.agent)


def main(arguments: list[str]) -> int:
    """Recover what the command line names; return 0 when nothing is left to send."""
    parser = argparse.ArgumentParser(
        prog="python -m nightingale_hub.instance.recover",
        description="Send the audit records that instances left when they ended.",
    )
    parser.add_argument("directories", nargs="*", type=Path, help="directories of instances")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="each in FOLDER that has some")
    given = parser.parse_args(arguments)
    directories = [each.absolute() for each in given.directories]
    if given.all is not None:
        directories += list_left(given.all.absolute())
    if not directories:
        print("nothing is left to send")
    os.umask(0o077)
    code = 0
    for directory in directories:
        try:
            print(recover(directory))
        except (NightingaleError, OSError, ValueError) as error:
            print(f"nightingale: {error}", file=sys.stderr)
            code = error.exit_code if isinstance(error, NightingaleError) else Unavailable.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
