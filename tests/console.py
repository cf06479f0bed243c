"""A real console service in a process of its own, with stand-ins for the hub and other parts."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nightingale_hub import instances
from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.database import Database
from nightingale_hub.launch import Launch, create
from nightingale_hub.offers import Offer, Size
from nightingale_hub.ports import find_free_ports
from nightingale_hub.settings import NightingaleHub
from tests.standins import Hub, Part, Servers

PARTS = ("supervisor", "metering", "billing", "audit")
READ = "custom:nightingale:instance:read"
STOP = "custom:nightingale:instance:stop"
CHANGE = "custom:nightingale:instance:change"
ACCESS = "access:services!service=console"
RATE = 41_000_000


@dataclass
class Console:
    """The console at `url` (through the stand-in proxy), its database and the stand-ins."""

    url: str
    hub: Hub
    parts: dict[str, Part]
    db: Database
    process: subprocess.Popen[bytes]

    def server_token(self, owner: str, server_name: str = "") -> str:
        """Return a new token as the hub gives to a server."""
        server = f"{owner}/{server_name}"
        scopes = [f"{scope}!server={server}" for scope in (READ, STOP, CHANGE)]
        return self.token(owner, [ACCESS, *scopes])

    def token(self, owner: str, scopes: list[str], kind: str = "user") -> str:
        """Return a new token of *owner* with *scopes*."""
        token = secrets.token_hex(16)
        self.hub.models[token] = {"kind": kind, "name": owner, "admin": False, "scopes": scopes}
        return token

    def person(self, name: str, admin: bool = False) -> dict[str, str]:
        """Make *name* a person who may log in, and return their hub cookie."""
        scopes = [ACCESS, *(f"{scope}!user={name}" for scope in (READ, STOP, CHANGE))]
        model = {"kind": "user", "name": name, "admin": admin, "scopes": scopes}
        self.hub.models[f"oauth-{name}"] = model
        return {"who": name}

    @contextmanager
    def browser(self, name: str, admin: bool = False) -> Iterator[httpx.Client]:
        """Yield a client with *name* logged in, which follows redirects."""
        with httpx.Client(
            base_url=self.url,
            cookies=self.person(name, admin),
            follow_redirects=True,
            headers={"Sec-Fetch-Mode": "navigate"},
            trust_env=False,
            timeout=20,
        ) as client:
            client.get("").raise_for_status()
            yield client

    def launch(self, owner: str, state: str = "running", **columns: Any) -> str:
        """Write down an instance of *owner* that reached *state*, ready 100 s ago."""
        at_us = now_us()
        offer = Offer("local", "here", "local-S", Size(), 1, 10, RATE)
        order = Launch(owner, columns.pop("server_name", ""), offer, b"")
        with self.db.write() as conn:
            instance_id = create(conn, order, at_us - 110 * US_PER_S)
        walked = {
            "requested": [],
            "booting": ["requested_to_launching", "launching_to_booting"],
            "running": ["requested_to_launching", "launching_to_booting", "booting_to_running"],
        }
        with self.db.write() as conn:
            for edge in walked["running" if state == "stopped" else state]:
                values = {}
                if edge == "launching_to_booting":
                    values = {"boot_id": "b1", "allocated_us": at_us - 105 * US_PER_S}
                if edge == "booting_to_running":
                    values = {"ready_us": at_us - 100 * US_PER_S}
                instances.take_edge(conn, instance_id, edge, at_us, f"Took {edge}", **values)
            if state == "stopped":
                stop(conn, instance_id, "done", at_us)
        return instance_id

    def charge(self, instance_id: str, seconds: int = 100, amount: int = 1139) -> None:
        """Have billing say what the instance cost so far."""
        entry = {
            "instance_id": instance_id,
            "seconds": seconds,
            "amount_micro": amount,
            "nano_per_hour": RATE,
            "state": "running",
        }
        self.parts["billing"].answers["cost"] = {
            "currency": "USD",
            "month": "2026-11",
            "posted_micro": 2_000_000,
            "running_micro": amount,
            "instances": [entry],
        }


def stop(conn: Any, instance_id: str, reason: str, at_us: int) -> None:
    """Stop an instance as the supervisor does, up to gone."""
    instances.want_stopped(conn, instance_id, at_us, reason)
    instances.take_edge(conn, instance_id, "running_to_stopping", at_us, "Stops")
    instances.take_edge(
        conn, instance_id, "stopping_to_stopped", at_us, "It is gone", gone_us=at_us
    )


@contextmanager
def running_console() -> Iterator[Console]:
    """Run the console; its process, its servers and its files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="nightingale-console-") as directory:
        servers = Servers()
        db = None
        process = None
        try:
            hub = Hub(servers)
            parts = {name: Part(servers, f"/services/{name}/api/") for name in PARTS}
            (port,) = find_free_ports(1)
            hub.routes = {"console": port}
            settings = _settings(Path(directory), hub, parts, port)
            db = Database(settings.db_url)
            db.upgrade()
            process = _start(settings, hub, port)
            console = Console(f"{hub.url}/services/console/", hub, parts, db, process)
            answer_by_default(console)
            _wait_until_it_serves(console)
            yield console
        finally:
            if process is not None:
                process.terminate()
                process.wait(10)
            if db is not None:
                db.dispose()
            servers.close()


def answer_by_default(console: Console) -> None:
    """Let every part work and know of nothing; the supervisor stops what it is told to."""
    for part in console.parts.values():
        part.reset()
        part.answers.clear()
    console.hub.is_down = False
    at_us = now_us()
    console.parts["billing"].answers = {
        "cost": {
            "currency": "USD",
            "month": "2026-11",
            "posted_micro": 0,
            "running_micro": 0,
            "instances": [],
        },
        "statement": lambda query, _: {
            **query,
            "currency": "USD",
            "lines": [],
            "total_micro": 0,
            "running_micro": 0,
            "pending": 0,
        },
    }
    console.parts["metering"].answers = {"live": {"instances": []}}
    console.parts["audit"].answers = {
        "reads": {"reads": [], "next": None},
        "summary": {"files": 3, "opens": 4, "reads": 7, "bytes": 9000, "last_us": at_us},
        "streams/.*": {"last_seq": 15, "indexed_seq": 12},
    }

    def accept(_: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        instance_id = console.parts["supervisor"].asked[-1][1].split("/")[1]
        with console.db.write() as conn:
            instances.want_stopped(conn, instance_id, now_us(), body["reason"])
            instances.take_edge(conn, instance_id, "running_to_stopping", now_us(), "Stops")
        return {}

    console.parts["supervisor"].answers = {"instances/[^/]+/stop": accept}


def _settings(directory: Path, hub: Hub, parts: dict[str, Part], port: int) -> NightingaleHub:
    ports = {name: part.port for name, part in parts.items()}
    return NightingaleHub(
        state_dir=str(directory), service_ports={**ports, "console": port}, public_url=f"{hub.url}/"
    )


def _start(settings: NightingaleHub, hub: Hub, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        **settings.to_environment(),
        # Nothing listens there: what went through the environment's proxy would be lost.
        "http_proxy": "http://127.0.0.1:1",
        "no_proxy": "",
        "JUPYTERHUB_API_TOKEN": "console-token",
        "JUPYTERHUB_API_URL": f"{hub.url}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "service-console",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": f'["access:services", "{ACCESS}"]',
        "JUPYTERHUB_SERVICE_NAME": "console",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/console/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "nightingale_hub.services.console"]
    return subprocess.Popen(command, env=environment)


def _wait_until_it_serves(console: Console) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert console.process.poll() is None, "the console ended at its start"
        try:
            if httpx.get(f"{console.url}api/status", trust_env=False).status_code == 403:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("the console did not answer within 30 s")
