"""`python -m nightingale_hub.fuse_audit.ship ship.json`: ship a spool to the audit service.

`ship.json` has `spool`, `audit_url`, `stream_id` and `credential`; with `is_urgent` no line waits
for company, for a mount that answers nothing before the hub has its record. SIGTERM drains what is
left, for at most 10 s. The exit code is 0 when everything was acknowledged, 1 when not, 9 for a
wrong setting.
"""

import argparse
import fcntl
import json
import logging
import os
import select
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from nightingale_hub.errors import ConfigError, Conflict, NightingaleError
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.seals import Seals, load_signer
from nightingale_hub.fuse_audit.shipper import Shipper
from nightingale_hub.fuse_audit.upload import Upload

DRAIN_S = 10.0

_KEYS = ("spool", "audit_url", "stream_id", "credential")


class Settings(NamedTuple):
    """What is in `ship.json`."""

    spool: str
    audit_url: str
    stream_id: str
    credential: str
    is_urgent: bool


def load_settings(path: str) -> Settings:
    """Return the settings in *path*; raise `ConfigError` naming the first that is wrong."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no readable JSON file: {error}") from error
    for key in _KEYS:
        if not isinstance(data, dict) or not isinstance(data.get(key), str) or not data[key]:
            raise ConfigError(f"{path}: {key} must be a text that is not empty")
    if not isinstance(data.get("is_urgent", False), bool):
        raise ConfigError(f"{path}: is_urgent must be true or false")
    return Settings(**{key: data[key] for key in _KEYS}, is_urgent=data.get("is_urgent", False))


class StopSignal:
    """SIGTERM and SIGINT, as a wait that they cut short; whoever drains on has `DRAIN_S` left."""

    def __init__(self) -> None:
        """Take the signals over."""
        self.shipper: Shipper | None = None  # what is given up when the time is over
        self._is_stopping = False
        # A handler may run at any line, so it must take no lock: a pipe wakes the wait.
        self._wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end)
        signal.signal(signal.SIGALRM, self._give_up)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._drain)

    def wait(self, seconds: float) -> bool:
        """Wait *seconds*, or until told to stop; return whether that has happened."""
        if not self._is_stopping:
            select.select([self._wake], [], [], seconds)
        return self._is_stopping

    def _drain(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        signal.setitimer(signal.ITIMER_REAL, DRAIN_S)

    def _give_up(self, _number: int, _frame: FrameType | None) -> None:
        first = self.shipper.next_seq if self.shipper else 0
        print(f"not shipped: line {first} and on; keep the spool", file=sys.stderr)
        sys.exit(1)


def _ship(settings: Settings) -> None:
    stop = StopSignal()
    spool, stream_id = settings.spool, settings.stream_id
    upload = Upload(settings.audit_url, stream_id, settings.credential)
    os.makedirs(spool, mode=0o700, exist_ok=True)
    signer = load_signer(spool, stream_id)
    lock = Descriptor(os.open(os.path.join(spool, "stream.json"), os.O_RDONLY | os.O_CLOEXEC))
    try:
        fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"spool {spool} is being shipped by another process already") from error
    seals = Seals(spool, stream_id, signer)
    stop.shipper = Shipper(spool, signer, seals, upload, stop.wait, is_urgent=settings.is_urgent)
    stop.shipper.run()


def main() -> int:
    """Ship until SIGTERM or SIGINT, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nightingale_hub.fuse_audit.ship",
        description="Ship the spool of an audit mount to the audit service.",
    )
    parser.add_argument("settings", help="ship.json: which spool, to where, as which stream")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        _ship(load_settings(arguments.settings))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except NightingaleError as error:
        print(f"shipping has stopped: {error}", file=sys.stderr)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
