"""The instance's data: the audit mount, and the shipper that sends what it recorded.

Fail closed: where the mount is refused the instance runs without data and says why. The spool is
never removed here; what is in it and not acknowledged stays for the next attempt to send it.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nightingale_hub.durable import save_json
from nightingale_hub.errors import MountRefused
from nightingale_hub.instance.bootstrap import Launch
from nightingale_hub.instance.kept import Kept

MOUNTED_WITHIN_S = 15.0
UNMOUNT_WITHIN_S = 1.5
SHIPPER_STARTS_WITHIN_S = 2.0
DRAIN_WITHIN_S = 10.5
OPEN_EVERY_S = 24 * 3600.0
_SERVED = ("name", "path", "policy", "fallback", "extras")

log = logging.getLogger(__name__)


class Audit:
    """The mount and the shipper of one boot."""

    def __init__(self, directory: Path, launch: Launch, stream_id: str) -> None:
        """Take what is to be mounted; starts nothing yet."""
        self._directory = directory
        self._launch = launch
        self._stream_id = stream_id
        self._mount = Kept("audit_mount", self._start_mount)
        self._shipper = Kept("shipper", self._start_shipper)
        self.kept: list[Kept] = []
        self._mountpoint = Path()
        self._opened_s = -OPEN_EVERY_S

    @property
    def spool(self) -> Path:
        """Where the mount records."""
        return self._directory / "spool"

    def start(
        self, mountpoint: Path, reader_uid: int | None, wait: Callable[[float], object]
    ) -> None:
        """Mount the datasets at *mountpoint* and start to ship; waits until it is mounted.

        *reader_uid* is whom the datasets are for, None for whoever this process is. *wait* is
        called for each pause. Raises `MountRefused` with the mount's own reason.
        """
        self._mountpoint = mountpoint
        spool = self.spool
        spool.mkdir(mode=0o700, exist_ok=True)
        mount = {
            "mountpoint": str(mountpoint),
            "spool": str(spool),
            "spool_limit_bytes": self._launch.spool_limit_bytes,
            "owner": self._launch.owner,
            "allow_other": reader_uid is not None,
            "guard": {
                **self._launch.audit_limits,
                "counts_egress": self._launch.counts_egress,
                "reader_uid": reader_uid,
            },
            "datasets": [
                {name: each[name] for name in _SERVED if each.get(name) is not None}
                for each in self._launch.datasets
            ],
        }
        ship = {
            "spool": str(spool),
            "audit_url": self._launch.audit_url,
            "stream_id": self._stream_id,
            "credential": self._launch.credential,
        }
        save_json(self._directory / "mount.json", mount)
        # Before the first record: whoever finds the spool knows by it where that is to go.
        save_json(self._directory / "ship.json", ship)
        self._mount.start()
        try:
            self._wait_mounted(wait)
        except MountRefused:
            if not any(file.stat().st_size for file in spool.glob("0*.ndjson")):
                (self._directory / "ship.json").unlink(missing_ok=True)
            raise
        self._shipper.start()
        self.kept = [self._mount, self._shipper]

    def open_daily(self) -> None:
        """Open one file of each dataset once a day, so that the hub sees that records arrive.

        Only as root, which the mount refuses and records: another user's open would look like
        the researcher's. Does not wait.
        """
        if os.geteuid() != 0 or time.monotonic() < self._opened_s + OPEN_EVERY_S:
            return
        self._opened_s = time.monotonic()
        paths = [
            self._mountpoint / each["name"] / each["extras"][0]["path"]
            for each in self._launch.datasets
            if each.get("extras")
        ]
        # A mount that hangs must not hang the agent.
        threading.Thread(target=_try_to_open, args=(paths,), name="daily", daemon=True).start()

    def end(self) -> None:
        """Take the mount away, then send what is left of its records; waits up to 12 s."""
        self._mount.end(UNMOUNT_WITHIN_S)
        # One that has just died would leave what it had not sent to nobody.
        self._shipper.ensure_running(SHIPPER_STARTS_WITHIN_S)
        if self._shipper.end(DRAIN_WITHIN_S) == 0:
            # With it goes the sign that something may be left to send.
            (self._directory / "ship.json").unlink(missing_ok=True)

    def _wait_mounted(self, wait: Callable[[float], object]) -> None:
        deadline = time.monotonic() + MOUNTED_WITHIN_S
        while True:
            status = self._mount.poll()
            said = (self._directory / "mount.out").read_text(errors="replace").splitlines()
            if any(_is_mounted_line(line) for line in said):
                return
            if status is not None:
                self._mount.end(0)
                raise MountRefused(said[-1] if said else f"the audit mount ended with {status}")
            if time.monotonic() > deadline:
                self._mount.end(1)
                raise MountRefused("the audit mount was not ready within 15 s")
            wait(0.02)

    def _start_mount(self) -> "subprocess.Popen[bytes]":
        # A file, not a pipe: the mount must not die because nobody reads what it says.
        return self._start("nightingale_hub.fuse_audit", "mount.json", "mount.out")

    def _start_shipper(self) -> "subprocess.Popen[bytes]":
        return self._start("nightingale_hub.fuse_audit.ship", "ship.json", "ship.log")

    def _start(self, module: str, settings: str, output: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", module, str(self._directory / settings)]
        with (self._directory / output).open("wb") as said:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _is_mounted_line(line: str) -> bool:
    try:
        data = json.loads(line)
    except ValueError:
        return False
    return isinstance(data, dict) and "mounted" in data


def _try_to_open(paths: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # refused, as it should be: what counts is the record
            os.close(os.open(path, os.O_RDONLY))
