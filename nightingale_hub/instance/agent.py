"""The agent: the first process of an instance, root where the hub is, and the last to end.

It trades its nonce for what it is to run, mounts the data, starts the server and beats; whatever
of these ends by itself is started again. It decides nothing about money or access.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from nightingale_hub.durable import find_json
from nightingale_hub.errors import MountRefused, NightingaleError
from nightingale_hub.instance import account, room, server
from nightingale_hub.instance.beat import Beats
from nightingale_hub.instance.bootstrap import Boot, Launch, bootstrap, forget_nonce, load_boot
from nightingale_hub.instance.data import Data
from nightingale_hub.instance.downloads import Downloads
from nightingale_hub.instance.kept import Kept, reap_orphans
from nightingale_hub.instance.lost import count_oom_kills, explain_end
from nightingale_hub.instance.programs import count_programs
from nightingale_hub.instance.signals import Signals
from nightingale_hub.instance.usage import Usage
from nightingale_hub.processes import Identity, become_subreaper, end_all, list_descendants

SERVER_ENDS_WITHIN_S = 5.0
REST_ENDS_WITHIN_S = 0.5
SERVER_RESTARTS = 3
TICK_S = 0.5
HUNG_AFTER_S = 600.0

log = logging.getLogger(__name__)


class Agent:
    """One boot of one instance."""

    def __init__(self, directory: Path, is_isolated: bool) -> None:
        """Take the instance in *directory*; *is_isolated* with namespaces of its own."""
        self.directory = directory
        self.is_isolated = is_isolated
        self.boot_id = uuid.uuid4().hex
        self.signals = Signals()
        self.kept: list[Kept] = []
        self.data: Data | None = None
        self.usage: Usage | None = None
        self._oom_kills = count_oom_kills()
        self.datasets: Path | None = None
        self.refusal: str | None = None
        self.status: dict[str, Any] = {}

    def run(self) -> None:
        """Live until SIGTERM; raises `NightingaleError` when the hub refuses the bootstrap."""
        become_subreaper()
        port = server.hold_port()
        with self.signals.exiting_at_once():
            boot = load_boot(self.directory)
            launch = bootstrap(boot, self.boot_id, port.number, log.info)
        forget_nonce(self.directory, boot)
        log.info("booted %s for %s as boot %s", boot.instance_id, launch.owner, self.boot_id)
        beats = Beats(
            f"{launch.metering_url}beat", launch.credential, boot.instance_id, self.boot_id
        )
        try:
            self._start_all(boot, launch, port, beats)
        except (NightingaleError, OSError) as error:
            beats.report(f"server_refused {error}")
        beats.start()
        self.usage = Usage(launch, port.number, self.directory, self._count_programs)
        self.usage.start()
        downloads = Downloads(launch, port.number)
        downloads.start()
        while not self.signals.is_stopping and not self._is_dark(beats):
            self._look_after_all(boot, launch, beats)
            self.signals.wait(TICK_S)
        beats.end()
        self.usage.end()
        downloads.end()
        self._end_all()

    def _start_all(self, boot: Boot, launch: Launch, port: server.Port, beats: Beats) -> None:
        if launch.system_user is None:
            user = account.get_current()
        else:
            # The account's own home is where it will see it.
            home = room.ISOLATED_HOME if self.is_isolated else launch.home
            user = account.ensure_account(launch.system_user, home)
        account.ensure_home(user, launch.home)
        place = room.ensure_room(self.directory, launch.home, self.is_isolated)
        self._start_data(boot, launch, user, place, port, beats)
        self.status |= {
            "instance_id": boot.instance_id,
            "boot_id": self.boot_id,
            "isolation": self._list_missing_isolation(user, launch.counts_egress),
            "datasets": str(self.datasets) if self.datasets else None,
            "mounted": [each["name"] for each in launch.datasets] if self.datasets else [],
            "data_refused": self.refusal,
        }
        place.save_status(self.status)
        one = server.Server(
            launch=launch,
            instance_id=boot.instance_id,
            account=user,
            room=place,
            port=port,
            log=self.directory / "server.log",
            datasets=self.datasets,
        )

        def start_on_its_cpus() -> "subprocess.Popen[bytes]":
            process = one.start()
            self._resize(boot, launch)
            return process

        kept = Kept("server", start_on_its_cpus, limit=SERVER_RESTARTS)
        kept.start()
        self.kept.append(kept)

    def _start_data(
        self,
        boot: Boot,
        launch: Launch,
        user: account.Account,
        place: room.Room,
        port: server.Port,
        beats: Beats,
    ) -> None:
        def tell(audit: dict[str, Any]) -> None:
            self.status["audit"] = audit
            place.save_status(self.status)

        if launch.datasets:
            stream_id = f"{boot.instance_id}:{self.boot_id}"
            data = Data(self.directory, boot, launch, user, stream_id)
            try:
                data.start(place.mountpoint, port.number, tell, beats.report, self._pause)
                self.data = data
                self.kept += data.kept
                self.datasets = place.mountpoint
            except NightingaleError as error:
                self.refusal = str(error)
                log.warning("no data: %s", error)
        try:
            room.link_datasets(user, place, self.datasets is not None)
        except NightingaleError as error:
            log.info("%s", error)

    def _pause(self, seconds: float) -> None:
        self.signals.wait(seconds)
        if self.signals.is_stopping:
            raise MountRefused("the instance was stopped before its data was mounted")

    def _is_dark(self, beats: Beats) -> bool:
        """Tell whether records have waited for the hub so long that the instance must end."""
        if self.data is None or not self.data.is_over:
            return False
        beats.report("audit_dark the hub has not stored its records; the instance ends, they stay")
        beats.flush()  # Nobody else tells the hub why it ends.
        return True

    def _list_missing_isolation(self, user: account.Account, counts_egress: bool) -> list[str]:
        network = "network: nothing here stops data from leaving through this machine's network"
        if counts_egress and self.data is not None:
            network += "; how much your processes send is recorded"
        missing = [network]
        if not user.is_own:
            missing.append("files: the server runs as the hub's own user and can read its files")
        if not self.is_isolated:
            missing.append("processes: the server sees this machine's processes and mounts")
        return missing

    def _look_after_all(self, boot: Boot, launch: Launch, beats: Beats) -> None:
        for each in self.kept:
            try:
                fault = each.tick(time.monotonic())
            except (NightingaleError, OSError) as error:
                fault = f"{each.name}_refused {error}"
            if fault is not None:
                beats.report(fault)
                self._report_loss(each, fault, launch)
        self._restart_hung(beats)
        reap_orphans(self.kept)
        if self.data is not None:
            self.data.look()
            for cause in ("mount", "records"):
                beats.note(cause, self.data.failure == cause)
        if self.signals.has_new_size:
            self.signals.has_new_size = False
            self._resize(boot, launch)

    def _report_loss(self, kept: Kept, fault: str, launch: Launch) -> None:
        """Tell the hub that the server ended, why, and whether it is started again."""
        status = fault.rpartition(" ")[2]
        if kept.name != "server" or self.usage is None or not status.lstrip("-").isdigit():
            return
        why = explain_end(int(status), self._oom_kills, launch.home)
        self._oom_kills = count_oom_kills()
        self.usage.report(f"{'server_lost' if kept.is_lost else 'server_exited'}: {why}")
        self.usage.note_started()

    def _restart_hung(self, beats: Beats) -> None:
        """Start a server anew that has answered nothing for so long that nobody can use it."""
        if self.usage is None or self.usage.silent_s < HUNG_AFTER_S:
            return
        for each in self.kept:
            if each.name == "server" and each.pid is not None:
                why = f"no answer for {HUNG_AFTER_S:g} s"
                beats.report(f"server_hung {why}")
                self.usage.report(f"server_hung: {why}")
                each.restart(SERVER_ENDS_WITHIN_S, time.monotonic())
        self.usage.note_started()

    def _count_programs(self) -> int:
        """Count programs that a researcher left running: all but the server, kernels and shells."""
        server = next((each.pid for each in self.kept if each.name == "server"), None)
        ours = [each.pid for each in self._list_servers()]
        return count_programs(server, ours)

    def _resize(self, boot: Boot, launch: Launch) -> None:
        size = find_json(self.directory / "size.json")
        vcpus = launch.vcpus if size is None else int(size["vcpus"])
        server.pin(self._list_servers(), server.choose_cpus(boot.instance_id, vcpus))

    def _list_servers(self) -> list[Identity]:
        """Return the server and all that it started, wherever that hid: all but our own parts."""
        parts = {each.pid for each in (self.data.kept if self.data else [])}
        ours = {below.pid for pid in parts if pid for below in list_descendants(pid)} | parts
        return [each for each in list_descendants(os.getpid()) if each.pid not in ours]

    def _end_all(self) -> None:
        """End the server, then the mount, then the shipper once it has sent the rest."""
        for each in self.kept:
            if each.name == "server":
                status = each.end(SERVER_ENDS_WITHIN_S)
                log.info("server ended with %s", status)
        deadline = time.monotonic() + REST_ENDS_WITHIN_S
        while (left := self._list_servers()) and time.monotonic() < deadline:
            end_all(left, 0.1)
            reap_orphans(self.kept)
        if self.data is not None:
            self.data.end()


def main(arguments: list[str]) -> int:
    """Run the agent of the instance in NIGHTINGALE_INSTANCE_DIR and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m nightingale_hub.instance.agent")
    parser.add_argument("--isolated", action="store_true", help="has namespaces of its own")
    is_isolated = parser.parse_args(arguments).isolated
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        Agent(Path(os.environ["NIGHTINGALE_INSTANCE_DIR"]), is_isolated).run()
    except NightingaleError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
