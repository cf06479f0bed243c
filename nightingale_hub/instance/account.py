"""The system user that a researcher's server runs as, and what is done in that user's name.

A home belongs to its user, who may put any link anywhere in it: root reads and writes nothing
there. What must be done in it is done by a child that has become the user first.
"""

import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nightingale_hub.errors import BadInput, Unavailable
from nightingale_hub.system_users import NAME

SHELL = "/bin/bash"
USERADD_WITHIN_S = 15.0


@dataclass(frozen=True)
class Account:
    """Whom a server runs as; `is_own` when it is not the user that we run as."""

    name: str
    uid: int
    gid: int
    is_own: bool

    def run(self, work: Callable[[], object]) -> bool:
        """Run *work* in a child that is this user; return False when it raised."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if self.is_own:
                    os.setgroups([])
                    os.setgid(self.gid)
                    os.setuid(self.uid)
                work()
                status = 0
            finally:
                os._exit(status)  # a forked child must never run its parent's code
        return os.waitpid(child, 0)[1] == 0

    def find_unreachable(self, paths: list[Path], mode: int) -> Path | None:
        """Return the first of *paths* that this user may not access in *mode*, or None."""
        for path in paths:
            if not self.run(partial(_check_access, path, mode)):
                return path
        return None


def get_current() -> Account:
    """Return the user that this process runs as: a server below it is not isolated."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a bare uid, as containers have
        name = str(uid)
    return Account(name, uid, os.getgid(), is_own=False)


def ensure_account(name: str, home: Path) -> Account:
    """Return the system user *name*, made with *home* and no password unless it exists.

    Raises `BadInput` for a name that is not one of ours, `Unavailable` when useradd fails.
    """
    if NAME.fullmatch(name) is None:
        raise BadInput(f"system user {name!r} is not nh- and 16 hex digits; nothing was created")
    deadline = time.monotonic() + USERADD_WITHIN_S
    while True:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            entry = None
        if entry is not None:
            break
        _add(name, home, deadline)
    if entry.pw_uid == 0:
        raise BadInput(f"system user {name} is root; remove it from /etc/passwd")
    return Account(name, entry.pw_uid, entry.pw_gid, is_own=True)


def ensure_home(account: Account, home: Path) -> None:
    """Make *home* unless it exists, owned by *account*, closed to others.

    Raises `BadInput` when something else stands there, or somebody else's.
    """
    home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not home.exists():
        home.mkdir(mode=0o700, exist_ok=True)
    status = home.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise BadInput(f"{home} is no directory; move it away, then start again")
    if status.st_uid not in (account.uid, os.geteuid()):
        raise BadInput(f"{home} belongs to uid {status.st_uid}, not to {account.name}")
    # The parent is ours, so nobody can put a link in its place in between.
    if account.is_own:
        os.chown(home, account.uid, account.gid, follow_symlinks=False)
    home.chmod(0o700)


def find_programs(command: str, interpreter: str, path: str) -> list[Path]:
    """Return what must be within reach to run *command*: it, and the *interpreter*'s real file.

    A virtual environment whose interpreter is out of reach would silently run the system's.
    """
    found = shutil.which(command, path=path)
    programs = [Path(found) if found else Path(command)]
    return [*programs, Path(interpreter), Path(interpreter).resolve()]


def _check_access(path: Path, mode: int) -> None:
    if not os.access(path, mode, effective_ids=True):
        raise PermissionError(path)


def _add(name: str, home: Path, deadline: float) -> None:
    # --system: no password, no ageing, no mail; the home is made elsewhere, by the hub.
    command = ["useradd", "--system", "--user-group", "--no-create-home"]
    command += ["--home-dir", str(home), "--shell", SHELL, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise Unavailable("there is no useradd here; set isolate_users = False") from error
    if done.returncode in (0, 9):  # 9: another instance was faster
        return
    # 1: somebody else holds /etc/passwd, for milliseconds.
    if done.returncode != 1 or time.monotonic() > deadline:
        raise Unavailable(f"useradd {name} failed: {done.stderr.strip()}")
    time.sleep(0.1)
