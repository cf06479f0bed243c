"""A zfs-fuse daemon of the demo's own, unseen by the rest of the machine but for what it mounts.

The daemon runs in a mount namespace where its socket, lock and cache directories are its own, so
it meets no other zfs-fuse. What it mounts below *share* is seen everywhere all the same: *share*
is a bind mount that the two namespaces share.

There is no pid file to lose: the daemon carries its share in its environment and is found by it.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from nightingale_hub.errors import MountRefused
from nightingale_hub.processes import Identity, end_all, list_marked

START_WITHIN_S = 10.0
STOP_WITHIN_S = 10.0
_MARK = "NIGHTINGALE_ZFS_SHARE"
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
_NEEDED = ("findmnt", "mount", "nsenter", "setsid", "umount", "unshare", "zfs", "zfs-fuse", "zpool")

# A slave hears of the host's mounts and unmounts, and tells the host of none of its own. What other
# FUSE daemons serve is let go: held here, it would not end for them when the host unmounts it.
_IN_NAMESPACE = """
set -e
cut_off() {
    mount --make-slave "$(findmnt -n -o TARGET -T "$1")"
}
for place in /run/zfs /run/lock/zfs /var/lib/zfs; do
    mkdir -p $place
    cut_off $place
    mount -t tmpfs -o mode=700,size=1m tmpfs $place
done
findmnt -r -n -o FSTYPE,TARGET | while read -r kind target; do
    case $kind in
    fuse*)
        target=$(printf %b "$target")
        cut_off "$(dirname "$target")"
        umount --lazy "$target"
        ;;
    esac
done
exec zfs-fuse --no-daemon --no-kstat-mount -a 0 -e 0
"""


def find_daemon(share: Path) -> Identity | None:
    """Return the living daemon that mounts below *share*, or None."""
    found = list_marked(_MARK, str(share))
    return found[0] if found else None


def start_daemon(share: Path) -> Identity:
    """Start a daemon whose mounts below *share* the whole machine sees, and wait for its answer.

    Raises `MountRefused` with the reason where this machine does not allow it.
    """
    if os.geteuid() != 0:
        raise MountRefused("zfs-fuse needs root")
    missing = [name for name in _NEEDED if shutil.which(name, path=_SYSTEM_PATH) is None]
    if missing:
        raise MountRefused(f"{', '.join(missing)} not installed; try: apt-get install zfs-fuse")
    share.mkdir(parents=True, exist_ok=True)
    run(["mount", "--bind", str(share), str(share)])
    run(["mount", "--make-private", str(share)])  # out of whatever it came from, then anew
    run(["mount", "--make-shared", str(share)])
    log = share.with_name("zfs-fuse.log")
    isolated = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _IN_NAMESPACE]
    with log.open("w") as output:
        subprocess.run(
            ["setsid", "--fork", *isolated],  # noqa: S607 - env names the system's own PATH
            env={"PATH": _SYSTEM_PATH, "LC_ALL": "C.UTF-8", _MARK: str(share)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
        )
    return _wait_for_answer(share, log)


def stop_daemon(share: Path) -> None:
    """End the daemon and take *share* out of the mount table; does nothing when there is none.

    Raises `MountRefused` when the daemon outlives SIGKILL.
    """
    # By SIGKILL: its pool is gone by now, and its own end would take four seconds for nothing.
    left = end_all(list_marked(_MARK, str(share)), STOP_WITHIN_S)
    if left:
        raise MountRefused(f"zfs-fuse, process {left[0].pid}, does not end; look at its state")
    for point in reversed(list_mounts(share)):
        # Lazily: with its daemon dead, a mount can only fail those who still hold it.
        run(["umount", "--lazy", point])


def run(command: list[str], daemon: Identity | None = None) -> str:
    """Run *command* where *daemon* lives (None: here) and return what it printed.

    Raises `MountRefused` with its last words.
    """
    inside = [] if daemon is None else ["nsenter", f"--target={daemon.pid}", "--mount"]
    done = subprocess.run(
        [*inside, *command],
        env={"PATH": _SYSTEM_PATH, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise MountRefused(f"{' '.join(command[:2])}: {words[-1] if words else done.returncode}")
    return done.stdout


def list_mounts(share: Path) -> list[str]:
    """Return the mount points at and below *share*, as this process sees them."""
    points = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # A space in a name is \040 there.
        raw = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4])
        point = os.fsdecode(raw)
        if point == str(share) or point.startswith(f"{share}/"):
            points.append(point)
    return points


def _wait_for_answer(share: Path, log: Path) -> Identity:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        daemon = find_daemon(share)
        if daemon is not None:
            try:
                run(["zpool", "list"], daemon)
            except MountRefused:
                pass  # not yet
            else:
                return daemon
        elif log.stat().st_size:
            break
        time.sleep(0.02)
    words = log.read_text(errors="replace").strip().splitlines()
    raise MountRefused(f"zfs-fuse does not start: {words[-1] if words else 'it says nothing'}")
