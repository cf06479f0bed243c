"""A PostgreSQL of the test's own: a fresh cluster on a socket in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_binaries() -> Path | None:
    """Return the newest PostgreSQL server's folder on this machine, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a cluster as an ordinary user and yield a URL prefix that takes a database's name."""
    binaries = find_binaries()
    assert binaries is not None, "PostgreSQL's server is not installed; run bin/test, which does"
    folder = Path(tempfile.mkdtemp(prefix="nightingale-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        # initdb refuses to run as root.
        account = pwd.getpwnam("postgres" if _has_user("postgres") else "nobody")
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
        as_user += ["--clear-groups", "--"]

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd=folder)

    data = folder / "data"
    try:
        run(str(binaries / "initdb"), "-D", str(data), "-U", "nightingale", "-A", "trust", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        control = str(binaries / "pg_ctl")
        run(control, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://nightingale@/{{name}}?host={folder}"
        finally:
            run(control, "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
