"""A real audit mount for tests: a daemon process over a directory, and what its spool holds."""

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nightingale_hub.fuse_audit.frames import list_files, parse_frames

LIMIT_S = 20
DAEMON = [sys.executable, "-m", "nightingale_hub.fuse_audit"]


class AuditMount:
    """One daemon on `<place>/mnt`, over `<place>/data` as the dataset `d`."""

    def __init__(self, place: Path, **settings: Any) -> None:
        self.mountpoint = place / "mnt"
        self.data = place / "data"
        self.spool = Path(settings.get("spool", place / "spool"))
        self.top = self.mountpoint / "d"
        self.data.mkdir(exist_ok=True)
        self.errors = place / "daemon.log"
        self.settings = place / "mount.json"
        self.process: subprocess.Popen[bytes]
        self.mutant: list[str] = []
        self.command = DAEMON
        if settings.get("adapter") == "fusepy":  # The product's libfuse adapter, on that library.
            settings["adapter"] = "libfuse"
            self.command = [sys.executable, "-m", "tests.mount_fusepy"]
        values = {
            "mountpoint": str(self.mountpoint),
            "spool": str(self.spool),
            "spool_limit_bytes": 1 << 30,
            "owner": "alice",
            "allow_other": os.geteuid() == 0,
            "datasets": [{"name": "d", "path": str(self.data), "policy": "strict"}],
        }
        self.settings.write_text(json.dumps(values | settings))

    def start(self, command: list[str] | None = None) -> dict[str, str]:
        """Start the daemon and return what it announced."""
        self._close_output()
        argv = [*(command or self.command), str(self.settings)]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            self._close_output()
            raise AssertionError(self.errors.read_text())
        announced: dict[str, str] = json.loads(line)
        return announced

    def _close_output(self) -> None:
        if hasattr(self, "process") and self.process.stdout:
            self.process.stdout.close()

    def stop(self) -> int:
        """Stop the daemon as its agent does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)

    def kill(self) -> None:
        """Kill the supervisor; the daemon dies with it."""
        daemon = self.find_daemon()
        self.process.kill()
        self.process.wait(LIMIT_S)
        if daemon is not None:
            assert select.select([daemon], [], [], LIMIT_S)[0], "the daemon outlived its supervisor"
            os.close(daemon)

    @property
    def daemon_pid(self) -> int:
        """The daemon's process, or that of libfuse, which has no supervisor."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0]) if children else self.process.pid

    def find_daemon(self) -> int | None:
        """Return a descriptor of the daemon's process, to be closed, if there is one."""
        try:
            return os.pidfd_open(self.daemon_pid)
        except OSError:
            return None

    def stop_daemon(self) -> int:
        """Stop the daemon's every thread, and return which process it is."""
        pid = self.daemon_pid
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + LIMIT_S
        while not all("\nState:\tT" in read for read in _read_threads(pid)):
            assert time.monotonic() < deadline, "the daemon does not stop"
            time.sleep(0.01)
        return pid

    def kill_daemon(self) -> int:
        """Kill the daemon alone, and return which process it was."""
        pid = self.daemon_pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def events(self, act: str | None = None) -> list[dict[str, Any]]:
        """Return the spool's events, all or of one kind, and check that their numbers go on."""
        found = read_events(self.spool)
        return [event for event in found if act in (None, event["act"])]

    def clean(self) -> None:
        """Leave no process and no mount, however the test ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close_output()
        unmount_left = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        if is_mounted(self.mountpoint):
            subprocess.run([*unmount_left, str(self.mountpoint)], check=True)
            raise AssertionError(f"a mount was left at {self.mountpoint}")


def _read_threads(pid: int) -> list[str]:
    return [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/status")]


@contextlib.contextmanager
def audit_mount(place: Path, **settings: Any) -> Iterator[AuditMount]:
    """Serve `<place>/data` and end the daemon behind the test, checked."""
    mount = AuditMount(place, **settings)
    mount.start()
    try:
        yield mount
    finally:
        mount.clean()


def read_events(spool: Path) -> list[dict[str, Any]]:
    """Return every event of the spool at *spool*; its numbers must have no gap and no double."""
    events: list[dict[str, Any]] = []
    for file in list_files(str(spool)):
        lines, _ = parse_frames((spool / file.name).read_bytes())
        events += [json.loads(line) for line in lines]
    if events:
        numbers = [event["seq"] for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return events


def is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return str(path) in [line.split(" ")[1] for line in lines]


def covered(events: list[dict[str, Any]], path: str) -> set[tuple[int, int]]:
    """Return the merged ranges, as (start, end), that *events* record as read of *path*."""
    return merge(
        (event["off"], event["off"] + event["len"])
        for event in events
        if event["act"] == "read" and event["path"] == path
    )


def merge(ranges: Any) -> set[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(one for one in ranges if one[0] < one[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return set(merged)


def is_covered(asked: set[tuple[int, int]], logged: set[tuple[int, int]]) -> bool:
    """Whether every byte of *asked* lies in *logged*."""
    return all(any(a <= start and end <= b for a, b in logged) for start, end in asked)


def fail_of(call: Callable[..., Any], *arguments: Any) -> int | None:
    """Return the errno that *call* fails with, or None."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def open_to_all(place: Path) -> None:
    """Let everybody go down to *place*: pytest makes its directories for one user."""
    for directory in (place, *place.parents):
        if directory == Path(tempfile.gettempdir()):
            return
        os.chmod(directory, stat.S_IMODE(directory.stat().st_mode) | 0o011)
