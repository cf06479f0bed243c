"""The researcher's Jupyter server: what it is started with, as whom, on which CPUs.

Its environment is built from nothing: what the hub's spawner gave, and what says where it is.
Whatever the agent itself was started with stays out.
"""

import hashlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.account import SHELL, Account, find_programs
from nightingale_hub.instance.bootstrap import Launch
from nightingale_hub.instance.room import Room
from nightingale_hub.processes import Identity

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Port:
    """A loopback port, held from when the hub is told of it until the server takes it."""

    number: int
    _socket: socket.socket

    def release(self) -> None:
        """Let the server have it."""
        self._socket.close()


def hold_port() -> Port:
    """Hold a free loopback port; nothing answers on it yet."""
    held = socket.socket()
    # So that the server may bind it at once, and after a restart while old connections linger.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return Port(held.getsockname()[1], held)


@dataclass(frozen=True)
class Server:
    """One server, before and after it runs."""

    launch: Launch
    instance_id: str
    account: Account
    room: Room
    port: Port
    log: Path
    datasets: Path | None

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it in its home; raises `Unavailable` when it cannot be started."""
        environment = self.build_environment()
        self.check_reach(environment["PATH"])
        self.port.release()
        command = self.build_command()
        is_own = self.account.is_own
        try:
            with self.log.open("ab") as said:
                return subprocess.Popen(
                    command,
                    env=environment,
                    cwd=self.room.home,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                    user=self.account.uid if is_own else None,
                    group=self.account.gid if is_own else None,
                    extra_groups=[] if is_own else None,
                )
        except OSError as error:
            raise Unavailable(f"{command[0]} could not be started: {error}") from error

    def build_command(self) -> list[str]:
        """Return the command line: the spawner's, answering with this instance's own header."""
        headers = {"headers": {"X-Nightingale-Instance": self.launch.api_nonce}}
        return [*self.launch.command, f"--ServerApp.tornado_settings={json.dumps(headers)}"]

    def build_environment(self) -> dict[str, str]:
        """Return the server's whole environment."""
        given = self.launch.environment
        programs = str(Path(sys.executable).parent)
        path = given.get("PATH", DEFAULT_PATH)
        if programs not in path.split(":"):
            path = f"{programs}:{path}"
        home = self.room.home
        prefix = given.get("JUPYTERHUB_SERVICE_PREFIX", "/")
        ours = {
            "HOME": str(home),
            # Terminals whose PATH no login script resets, and no news from outside.
            "JUPYTER_CONFIG_PATH": str(Path(__file__).parent / "jupyter"),
            "JUPYTER_PATH": ":".join(filter(None, (find_lab_files(), given.get("JUPYTER_PATH")))),
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port.number}{prefix}",
            # By instance: pids, by which Jupyter names files there, begin anew in each.
            "JUPYTER_RUNTIME_DIR": str(home / ".local/share/jupyter/runtime" / self.instance_id),
            "LOGNAME": self.account.name,
            "NIGHTINGALE_CONSOLE_URL": self.launch.console_url,
            "NIGHTINGALE_DATASETS": str(self.datasets or ""),
            "NIGHTINGALE_INSTANCE_ID": self.instance_id,
            "NIGHTINGALE_STATUS_FILE": str(self.room.status_file),
            "PATH": path,
            "SHELL": SHELL,
            "USER": self.account.name,
        }
        return {"LANG": "C.UTF-8"} | given | ours

    def check_reach(self, path: str) -> None:
        """Raise `Unavailable` unless the server's user can reach home and programs."""
        if not self.account.is_own:
            return
        programs = find_programs(self.launch.command[0], sys.executable, path)
        lost = self.account.find_unreachable(programs, os.X_OK)
        lost = lost or self.account.find_unreachable([self.room.home], os.R_OK | os.W_OK | os.X_OK)
        if lost is not None:
            raise Unavailable(
                f"{self.account.name} cannot reach {lost}; install Nightingale Hub where every "
                "user may run it (not below /root), or set isolate_users = False"
            )


def find_lab_files() -> str:
    """Return the folder in whose `labextensions` Lab and Notebook find the researcher's panel."""
    # Named, not imported: the part belongs to the browser.
    part = importlib.util.find_spec("nightingale_hub.labextension")
    assert part is not None and part.origin is not None, "it is in this distribution"
    return str(Path(part.origin).parent / "share")


def choose_cpus(instance_id: str, vcpus: int | None) -> set[int]:
    """Return *vcpus* of this machine's CPUs, all of them when None or more than there are.

    Which ones follows from the instance's id, so that instances spread over the machine.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if vcpus is None or vcpus >= len(cpus):
        return set(cpus)
    first = int(hashlib.sha256(instance_id.encode()).hexdigest(), 16) % len(cpus)
    return {cpus[(first + step) % len(cpus)] for step in range(max(1, vcpus))}


def pin(processes: list[Identity], cpus: set[int]) -> None:
    """Let *processes*, with all their threads, run on *cpus* alone."""
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), cpus)
