"""Brings one instance on this machine up or down: `python -m nightingale_hub.instance.local up`.

Terraform runs it, with NIGHTINGALE_INSTANCE_DIR set. Each verb may be killed at any line and run
again, and two that run at once take turns; a `down` that succeeds has left no process.
"""

import os
import signal
import sys
import time
from pathlib import Path

from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import BadInput, Conflict, NightingaleError, Unavailable
from nightingale_hub.instance.detach import Pids, detach, find_pids
from nightingale_hub.instance.egress import name_table, remove_table
from nightingale_hub.instance.lock import locked
from nightingale_hub.instance.recover import drain, start_recovery
from nightingale_hub.instance.room import clear_room
from nightingale_hub.processes import (
    Identity,
    end_all,
    is_alive,
    list_marked,
    send_signal,
    wait_gone,
)

INSTANCE_MARK = "NIGHTINGALE_INSTANCE_ID"
AGENT_ENDS_WITHIN_S = 18.5
REST_ENDS_WITHIN_S = 1.5
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


def up(directory: Path, home: str) -> None:
    """Start the instance of *directory* unless it is alive; returns once it is on record.

    Raises `Conflict` when its one boot is used up, `Unavailable` when it does not start.
    """
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with locked(directory):
        pids = find_pids(directory)
        if pids is not None and is_alive(pids.agent):
            return
        if not (find_json(directory / "boot.json") or {}).get("nonce"):
            raise Conflict(
                f"{directory} has no nonce to boot with: it was used, and its agent is gone; "
                "destroy the instance and start another"
            )
        environment = passed_on | {
            "NIGHTINGALE_INSTANCE_DIR": str(directory),
            "NIGHTINGALE_HOME_DIR": home,
            INSTANCE_MARK: directory.name,
        }
        detach(directory, environment)
    start_recovery(directory.parent, passed_on)


def down(directory: Path) -> None:
    """End the instance of *directory* with all that it started; waits up to 20 s.

    Succeeds when there is nothing to end. Raises `Unavailable` when something does not end.
    """
    if not directory.is_dir():
        return
    with locked(directory):
        pids = find_pids(directory)
        was_alive = pids is not None and is_alive(pids.agent)
        left = _end(pids) if pids is not None else []
        left += end_all(list_marked(INSTANCE_MARK, directory.name), REST_ENDS_WITHIN_S)
        if left:
            raise Unavailable(
                f"processes {', '.join(str(each.pid) for each in left)} of {directory} did not "
                "end within 20 s; retry"
            )
        if not was_alive:
            drain(directory)
        remove_table(name_table(directory.name))
        clear_room(directory)
        (directory / "agent.pid").unlink(missing_ok=True)


def set_size(directory: Path, vcpus: int) -> None:
    """Give the instance of *directory* that many CPUs, now if it runs, else from its start."""
    save_json(directory / "size.json", {"vcpus": vcpus})
    pids = find_pids(directory)
    if pids is not None:
        send_signal(pids.agent, signal.SIGHUP)


def _end(pids: Pids) -> list[Identity]:
    """End the agent, in order if it can; return what did not end."""
    deadline = time.monotonic() + AGENT_ENDS_WITHIN_S
    # Said again: the first process of a namespace does not hear a signal before it listens.
    while send_signal(pids.agent, signal.SIGTERM) and time.monotonic() < deadline:
        wait_gone(pids.agent, 0.5)
    left = end_all([pids.agent], REST_ENDS_WITHIN_S)
    if pids.keeper is not None and not wait_gone(pids.keeper, REST_ENDS_WITHIN_S):
        left += end_all([pids.keeper], REST_ENDS_WITHIN_S)
    return left


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit code."""
    os.umask(0o077)
    try:
        directory = Path(os.environ["NIGHTINGALE_INSTANCE_DIR"])
        match arguments:
            case ["up"]:
                up(directory, os.environ["NIGHTINGALE_HOME_DIR"])
            case ["down"]:
                down(directory)
            case ["size"]:
                set_size(directory, int(os.environ["NIGHTINGALE_VCPUS"]))
            case _:
                raise BadInput("usage: python -m nightingale_hub.instance.local up|down|size")
    except KeyError as error:
        print(f"nightingale: {error.args[0]} is not set", file=sys.stderr)
        return BadInput.exit_code
    except NightingaleError as error:
        print(f"nightingale: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
