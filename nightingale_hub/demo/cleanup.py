"""What a demo must not leave behind, and how its directory and system users are removed."""

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

from nightingale_hub.errors import Conflict
from nightingale_hub.processes import list_processes
from nightingale_hub.system_users import name_system_user

SETTLE_FOR_S = 5.0


def list_leftovers(directory: Path) -> list[str]:
    """Return what still belongs to the demo in *directory*: processes and mounts, named.

    Waits up to 5 s for what is just ending. A process belongs to it when its command line,
    environment or working directory names the directory; who waits for this process does not.
    """
    deadline = time.monotonic() + SETTLE_FOR_S
    while True:
        found = _list_processes(str(directory)) + _list_mounts(str(directory))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def check_idle(directory: Path) -> None:
    """Raise `Conflict` while an instance of the demo runs: its data is not taken from under it."""
    running = _list_processes(str(directory / "instances"))
    if running:
        raise Conflict(f"{directory} is in use: {'; '.join(running)}")


def remove(directory: Path) -> None:
    """Delete *directory* and the system users that have a home in it.

    Raises `Conflict` while anything of it still runs.
    """
    left = list_leftovers(directory)
    if left:
        raise Conflict(f"{directory} is in use: {'; '.join(left)}")
    names = _list_system_users(directory)
    for account in pwd.getpwall():
        if account.pw_name in names:
            command = ["/usr/sbin/userdel", account.pw_name]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                raise Conflict(f"{account.pw_name} was not removed: {done.stderr.strip()}")
    shutil.rmtree(directory)


def _list_system_users(directory: Path) -> set[str]:
    path = directory / "secret.key"
    if not path.exists():  # it never got as far as a home
        return set()
    key = bytes.fromhex(path.read_text())
    return {name_system_user(key, home.name) for home in directory.glob("homes/*")}


def _list_processes(directory: str) -> list[str]:
    needle = directory.encode()
    callers = _list_callers()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in callers:
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            told = command + (entry / "environ").read_bytes() + os.readlink(entry / "cwd").encode()
        except OSError:
            continue  # it ended, or it is another user's
        if needle in told:
            words = command.replace(b"\0", b" ").decode(errors="replace").strip()
            found.append(f"process {entry.name} ({words[:80]})")
    return found


def _list_callers() -> list[int]:
    """Return this process and all above it: `sudo`, `timeout` and `sh -c` name its arguments."""
    parents = {each.pid: each.parent for each in list_processes()}
    callers = [os.getpid()]
    while parent := parents.get(callers[-1]):
        callers.append(parent)
    return callers


def _list_mounts(directory: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4] for line in lines]
    return [f"mount {point}" for point in points if point.startswith(directory + "/")]
