"""The instance's data and everything that must stand before it is served.

In this order: what is sent is counted, what is granted is known, the mount is made, its records
are shipped; and backwards at the end. What refuses any of it leaves the instance without data.
"""

import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nightingale_hub.errors import MountRefused
from nightingale_hub.instance.account import Account
from nightingale_hub.instance.audit import Audit
from nightingale_hub.instance.bootstrap import Boot, Launch
from nightingale_hub.instance.egress import Egress, resolve
from nightingale_hub.instance.kept import Kept
from nightingale_hub.instance.vigil import Vigil
from nightingale_hub.instance.watch import Watch, ask_granted

STOP_AFTER_S = 3600.0


class Data:
    """The data of one boot."""

    def __init__(
        self, directory: Path, boot: Boot, launch: Launch, user: Account, stream_id: str
    ) -> None:
        """Take what is to be served to *user*; starts nothing yet."""
        self._boot = boot
        self._launch = launch
        self._user = user
        self._audit = Audit(directory, launch, stream_id)
        self._egress: Egress | None = None
        self._watch: Watch | None = None
        self._vigil: Vigil | None = None

    @property
    def kept(self) -> list[Kept]:
        """The children that serve it, once they do."""
        return self._audit.kept

    @property
    def failure(self) -> str | None:
        """What of the platform keeps the researcher from reading, or None.

        None too where they could bring it about: without an account of their own they can stop
        the mount.
        """
        return self._vigil.failure if self._vigil is not None and self._user.is_own else None

    @property
    def is_over(self) -> bool:
        """Whether its records have been waiting for the hub so long that the instance must end."""
        return self._vigil is not None and self._vigil.is_over

    def start(
        self,
        mountpoint: Path,
        server_port: int,
        tell: Callable[[dict[str, Any]], None],
        report: Callable[[str], None],
        wait: Callable[[float], object],
    ) -> None:
        """Serve it at *mountpoint*; waits until it is mounted.

        *tell* gets each state of the audit, *report* what is amiss. Raises `MountRefused`.
        """
        try:
            if self._launch.counts_egress:
                self._egress = self._start_egress(server_port)
            elif self._boot.cloud != "local":
                # The rules that count are also what keeps the researcher from the storage.
                raise MountRefused(
                    f"{self._boot.cloud} serves no data without rules that keep its reader from "
                    "the storage: set c.NightingaleHub.count_egress and isolate_users to True"
                )
            names = [each["name"] for each in self._launch.datasets]
            ask = partial(ask_granted, self._boot.hub_url, self._launch.credential)
            self._watch = Watch(self._audit.spool, names, ask, self._egress, report)
            self._watch.start()
            reader_uid = self._user.uid if self._user.is_own else None
            self._audit.start(mountpoint, reader_uid, wait)
        except BaseException:
            if self._watch is not None:
                self._watch.end()
            self._end_counting()
            raise
        stop_after_s = float(self._launch.audit_limits.get("stop_after_s", STOP_AFTER_S))
        self._vigil = Vigil(self._audit.spool, stop_after_s, tell, report)

    def look(self) -> None:
        """Look after it once."""
        self._audit.open_daily()
        if self._vigil is not None:
            self._vigil.look()

    def end(self) -> None:
        """Record what was sent, take the mount away, send what is left; waits up to 12 s."""
        if self._watch is not None:
            self._watch.end()
        if self._vigil is not None:
            self._audit.end()
        self._end_counting()

    def _start_egress(self, server_port: int) -> Egress:
        url = urllib.parse.urlsplit(self._boot.hub_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        hub = resolve(url.hostname or "", port)
        egress = Egress(self._boot.instance_id, self._user, hub)
        egress.start(server_port)
        return egress

    def _end_counting(self) -> None:
        self._watch = None
        if self._egress is not None:
            self._egress.end()
            self._egress = None
