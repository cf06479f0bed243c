"""A real hub under test: JupyterHub's own process, the five services, the npm proxy.

Everything that it starts lies below one temporary folder and ends with it; what is left at the
end, of processes, mounts or instances, fails the test.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, Row

from nightingale_hub import instances
from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.demo.cleanup import list_leftovers
from nightingale_hub.offers import list_choices
from nightingale_hub.ports import find_free_ports
from nightingale_hub.processes import (
    Identity,
    find_identity,
    list_descendants,
    list_marked,
    send_signal,
)
from nightingale_hub.service import die_with_parent
from nightingale_hub.settings import SERVICES
from nightingale_hub.system_users import name_system_user
from tests.client import Client, wait_for

START_FOR_S = 60.0
GONE_WITHIN_S = 90.0

CONFIG = """
import nightingale_hub

c = get_config()
c.JupyterHub.bind_url = {bind_url!r}
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {password!r}
c.SharedPasswordAuthenticator.admin_password = {admin_password!r}
c.Authenticator.allowed_users = {users!r}
c.Authenticator.admin_users = {{"admin"}}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.pid_file = "proxy.pid"
c.NightingaleHub.state_dir = {state!r}
c.NightingaleHub.db_url = {db_url!r}
c.NightingaleHub.idle_timeout_s = 0  # the tests of idleness start the culler themselves
{config}
nightingale_hub.configure(c)
{config_after}
"""


class Hub:
    """A hub of the test's own; `url` is where people and instances find it."""

    def __init__(self, folder: Path, users: Sequence[str], values: dict[str, Any]) -> None:
        self.folder = folder
        self.users = list(users)
        self.state = folder / "state"
        self.log_path = folder / "hub.log"
        self.db_url = values["db_url"] or f"sqlite:///{self.state / 'nightingale.sqlite'}"
        self.passwords = {"": secrets.token_hex(8), "admin": secrets.token_hex(16)}
        port, hub_port, proxy_port = find_free_ports(3)
        self.url = f"http://127.0.0.1:{port}{values['base_url']}"
        self.environment = {**os.environ, **values["environment"]}
        text = CONFIG.format(
            bind_url=self.url,
            hub_port=hub_port,
            proxy_port=proxy_port,
            password=self.passwords[""],
            admin_password=self.passwords["admin"],
            users=set(users),
            state=str(self.state),
            db_url=self.db_url,
            config=values["config"],
            config_after=values["config_after"],
        )
        (folder / "jupyterhub_config.py").write_text(text)
        self.database = Database(self.db_url)
        self._clients: dict[str, Client] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The hub's own process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the hub; returns once it and its services answer and there are prices."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        pages = ["hub/health", *(f"services/{name}/health" for name in SERVICES)]
        deadline = time.monotonic() + START_FOR_S
        while not (all(self._answers(page) for page in pages) and self._has_prices()):
            assert self._process.poll() is None and time.monotonic() < deadline, self.tail_log()
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the hub's process alone, with SIGKILL; its proxy and instances live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start the hub again after it was killed, or end it in order and start it."""
        assert self._process is not None
        if self._process.poll() is None:
            self.end()
        self.start()

    def kill_service(self, name: str) -> None:
        """Kill a service's process, with SIGKILL; the hub starts it again at its next check."""
        assert send_signal(self.get_service(name), signal.SIGKILL)

    def get_service(self, name: str) -> Identity:
        """Return the process of a service."""
        module = f"nightingale_hub.services.{name}"
        found = [each for each in list_descendants(self.pid) if module in read_command(each)]
        assert len(found) == 1, f"{len(found)} processes of {name}"
        return found[0]

    def client(self, name: str) -> Client:
        """Return *name*, logged in."""
        if name not in self._clients:
            password = self.passwords["admin" if name == "admin" else ""]
            client = Client(self.url, name, password)
            self._clients[name] = client
            client.log_in()
        return self._clients[name]

    def find_instance(self, owner: str, server: str = "") -> Row[Any] | None:
        """Return the record of a server's instance that is not gone, or None."""
        with self.database.read() as conn:
            return instances.find_current(conn, owner, server)

    def list_instances(self, owner: str | None = None) -> list[Row[Any]]:
        """Return the newest instances, gone ones too."""
        with self.database.read() as conn:
            return instances.list_for(conn, owner)

    def list_progress(self, instance_id: str) -> list[Row[Any]]:
        """Return what an instance's owner may read about it."""
        with self.database.read() as conn:
            return instances.list_progress(conn, instance_id)

    def wait_state(self, owner: str, state: str, server: str = "") -> Row[Any]:
        """Wait until the newest instance of a server is in *state*, and return its record."""

        def look() -> Row[Any] | None:
            rows = [row for row in self.list_instances(owner) if row.server_name == server]
            return rows[0] if rows and rows[0].actual == state else None

        row: Row[Any] = wait_for(look, f"{owner}'s instance is {state}")
        return row

    def tail_log(self) -> str:
        """Return the end of what the hub and its services said."""
        return self.log_path.read_text(errors="replace")[-6000:]

    def close(self) -> None:
        """Stop every instance, wait until each is gone, end the hub; fail for what is left."""
        for client in self._clients.values():
            client.close()
        try:
            if self._process is not None and self._process.poll() is not None:
                self.start()  # only a supervisor can remove instances
            self._stop_instances()
        finally:
            self.end()
            self.database.dispose()
        left = list_leftovers(self.folder)
        assert not left, left

    def _stop_instances(self) -> None:
        def accept(conn: Connection) -> None:
            for row in instances.list_unsettled(conn):
                instances.want_stopped(conn, row.id, now_us(), "the test ends")

        self.database.transact(accept)
        deadline = time.monotonic() + GONE_WITHIN_S
        while True:
            with self.database.read() as conn:
                left = [f"{row.id} is {row.actual}" for row in instances.list_unsettled(conn)]
            if not left:
                return
            assert time.monotonic() < deadline, (left, self.tail_log())
            time.sleep(0.1)

    def end(self) -> None:
        """End the hub and its proxy, however they are."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # A hub that was killed leaves its proxy.
        pid_file = self.folder / "proxy.pid"
        if pid_file.exists():
            proxy = find_identity(int(pid_file.read_text()))
            if proxy is not None and "configurable-http-proxy" in read_command(proxy):
                send_signal(proxy, signal.SIGTERM)

    def _has_prices(self) -> bool:
        with self.database.read() as conn:
            return any(
                each.nano_usd_per_hour for each in list_choices(conn, "local", "here", now_us())
            )

    def _answers(self, page: str) -> bool:
        try:
            return httpx.get(self.url + page, timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def read_command(process: Identity) -> str:
    """Return the command line of *process*, or an empty string when it is gone."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def list_processes(instance_id: str) -> list[Identity]:
    """Return what runs of an instance, wherever it hides."""
    return list_marked("NIGHTINGALE_INSTANCE_ID", instance_id)


@contextmanager
def running_hub(
    db_url: str | None = None,
    users: Sequence[str] = ("alice",),
    base_url: str = "/",
    config: str = "",
    config_after: str = "",
    environment: dict[str, str] | None = None,
) -> Iterator[Hub]:
    """Yield a hub that answers, for *users* and `admin`.

    *config* is Python before `configure(c)`, *config_after* after it; *environment* is added to
    the hub's. *db_url* is an empty database, by default SQLite in the state directory.
    """
    folder = Path(tempfile.mkdtemp(prefix="nightingale-hub-"))
    folder.chmod(0o711)  # researchers' system users pass through it
    values = {
        "db_url": db_url,
        "base_url": base_url,
        "config": config,
        "config_after": config_after,
        "environment": environment or {},
    }
    hub = Hub(folder, users, values)
    try:
        hub.start()
        try:
            yield hub
        finally:
            hub.close()
    finally:
        hub.end()
        remove_system_users(hub.state)
        shutil.rmtree(folder, ignore_errors=True)


def remove_system_users(state: Path) -> None:
    """Remove the system users that the hub with this state directory made."""
    key_file = state / "secret.key"
    if key_file.exists():
        key = bytes.fromhex(key_file.read_text())
        ours = {name_system_user(key, home.name) for home in state.glob("homes/*")}
        for name in sorted(ours & {entry.pw_name for entry in pwd.getpwall()}):
            subprocess.run(["/usr/sbin/userdel", name], capture_output=True, check=False)
