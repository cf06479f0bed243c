"""A supervisor at work in the test's own process: real routes, real Terraform, real instances.

Only the hub is stood in for, and the researcher's server is a small one that answers its nonce.
"""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from nightingale_hub import instances, resizing
from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.launch import Launch, create
from nightingale_hub.offers import Offer, Size
from nightingale_hub.ports import find_free_ports
from nightingale_hub.processes import Identity, list_marked
from nightingale_hub.requests import Kind, Request, ask
from nightingale_hub.secrets_at_rest import encrypt
from nightingale_hub.service import Loop
from nightingale_hub.services.supervisor.service import make
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.instances import terraform_run
from nightingale_hub.terraform.launcher import find_terraform
from tests.record import change
from tests.serving import Client, serving

OFFER = Offer("local", "here", "local-S-none-S", Size(), 1, 10, 30_000_000)

# Answers what the hub asks of a server, with the headers that its command line names.
SERVER = """
import http.server, json, os, sys, urllib.parse
named = [each for each in sys.argv if each.startswith("--ServerApp.tornado_settings=")]
headers = json.loads(named[0].partition("=")[2])["headers"]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *arguments):
        pass
port = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
SERVER_OF_A_STRANGER = SERVER.replace("value)", "'stranger')")
SERVER_THAT_NEVER_ANSWERS = "import time; time.sleep(600)"

# Wraps the real Terraform; `{fault}` is shell that may look at $1, the action.
TERRAFORM = """#!/bin/sh
here=${{0%/*}}
{fault}
exec {terraform} "$@"
"""
FAILS = """if [ "$1" = {action} ] && [ -e "$here/broken" ]; then
    echo '{error}'
    exit 1
fi"""
COUNTS = 'echo "$1" >> "$here/actions"'


class TerraformDouble:
    """A `terraform` before the real one on PATH; while `broken` exists it has its fault."""

    def __init__(self, folder: Path, fault: str) -> None:
        self.folder = folder
        folder.mkdir()
        real = shlex.join(find_terraform(os.environ["PATH"]))
        program = folder / "terraform"
        program.write_text(TERRAFORM.format(fault=f"{COUNTS}\n{fault}", terraform=real))
        program.chmod(0o755)
        (folder / "broken").touch()

    def repair(self) -> None:
        (self.folder / "broken").unlink()

    def list_actions(self) -> list[str]:
        """Return every action that was started, in order."""
        path = self.folder / "actions"
        return path.read_text().split() if path.exists() else []


class TerraformThatFailsToDestroy(TerraformDouble):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _fail("destroy", "the cloud is down"))


class TerraformThatFailsToApply(TerraformDouble):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _fail("apply", "no capacity left"))


class TerraformThatFailsToResize(TerraformDouble):
    """Its apply fails for every size but the first, as where a bigger one cannot be had."""

    def __init__(self, folder: Path) -> None:
        is_big = """[ "$1" = apply ] && ! grep -q '"vcpus": *1[,}]' terraform.tfvars.json"""
        fails = _fail("apply", "no capacity left")
        super().__init__(folder, f"if {is_big}; then {fails}; fi")


class TerraformThatIsSlow(TerraformDouble):
    """Its apply takes *pause_s* before it begins; an interrupt ends it then too."""

    def __init__(self, folder: Path, pause_s: int = 2) -> None:
        super().__init__(folder, f'if [ "$1" = apply ]; then sleep {pause_s}; fi')


class _ForgetHandler(RequestHandler):
    def initialize(self, told: list[str]) -> None:
        self.told = told

    def delete(self, path: str) -> None:
        self.told.append(f"{self.request.headers['Authorization']} {self.request.uri}")
        self.set_status(204)


class Fleet:
    """The supervisor's database, its API, and what it was told to do."""

    def __init__(self, database: Database, settings: NightingaleHub, told: list[str]) -> None:
        self.database = database
        self.settings = settings
        self.told = told
        [self.port] = find_free_ports(1)  # the same for each supervisor, as behind a proxy
        settings.public_url = f"http://127.0.0.1:{self.port}/"
        self.client: Client

    def ask(
        self, owner: str = "alice", server: str = "", program: str = SERVER, **columns: Any
    ) -> str:
        """Write down that an instance is wanted, as the spawner does; *columns* are set too."""
        secret = {
            "cmd": [sys.executable, "-c", program],
            "args": ["--one"],
            "env": {"JUPYTERHUB_SERVICE_PREFIX": f"/user/{owner}/", "SECRET": "of the server"},
        }
        sealed = encrypt(self.settings.secret_key(), secret)
        launch = Launch(owner, server, OFFER, sealed, f"/user/{owner}/")
        with self.database.write() as conn:
            key = create(conn, launch, now_us())
            if columns:
                change(conn, key, **columns)
        return key

    def get(self, key: str) -> Row[Any]:
        with self.database.read() as conn:
            return instances.get(conn, key)

    def list_lines(self, key: str) -> list[str]:
        """Return what the owner may read, edges as their names."""
        with self.database.read() as conn:
            return [line.edge or line.message for line in instances.list_progress(conn, key)]

    def list_runs(self, key: str) -> list[Row[Any]]:
        query = select(terraform_run).where(terraform_run.c.instance_id == key)
        with self.database.read() as conn:
            return list(conn.execute(query.order_by(terraform_run.c.id)))

    def stop(self, key: str, reason: str = "asked for") -> bool:
        with self.database.write() as conn:
            return instances.want_stopped(conn, key, now_us(), reason)

    def resize(self, key: str, size: Size) -> None:
        """Ask for another size, as another part does."""
        wish = Request(key, Kind.RESIZE, "alice", "a bigger model", size=size)
        with self.database.write() as conn:
            ask(conn, wish, now_us())

    async def wait_resized(self, key: str, phase: str, timeout_s: float = 30) -> Row[Any]:
        """Wait until the last resize of an instance ended in *phase*, and return its row."""

        def look() -> Row[Any] | None:
            with self.database.read() as conn:
                row = resizing.find_last(conn, key)
            return row if row is not None and row.ended_us is not None else None

        row: Row[Any] = await self.wait(look, timeout_s)
        assert row.phase == phase, (row, self.list_lines(key))
        return row

    async def wait(self, look: Callable[[], Any], timeout_s: float = 30) -> Any:
        """Wait until *look* returns something true, and return it."""
        async with asyncio.timeout(timeout_s):
            while not (seen := look()):
                await asyncio.sleep(0.02)
        return seen

    async def wait_state(self, key: str, state: str, timeout_s: float = 30) -> Row[Any]:
        """Wait until an instance is in *state*, and return its record."""
        try:
            await self.wait(lambda: self.get(key).actual == state, timeout_s)
        except TimeoutError as error:
            log = self.settings.state_path / "instances" / key / "agent.log"
            said = log.read_text()[-2000:] if log.exists() else ""
            raise AssertionError(f"not {state}: {self.list_lines(key)}\n{said}") from error
        return self.get(key)

    def list_processes(self, key: str) -> list[Identity]:
        """Return what runs of an instance."""
        return list_marked("NIGHTINGALE_INSTANCE_ID", key)


@asynccontextmanager
async def supervising(fleet: Fleet) -> AsyncIterator[None]:
    """Run a supervisor over *fleet*; at the end it is broken off like one that was killed."""
    one = serving("supervisor", fleet.database, make, fleet.settings, fleet.port)
    async with one as (client, service):
        fleet.client = client

        async def run(loop: Loop) -> None:
            while True:
                await loop.step()
                await asyncio.sleep(min(loop.pause_s, 0.5))

        tasks = [asyncio.create_task(run(each)) for each in service.loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def running_fleet(database: Database, state: Path, **settings: Any) -> AsyncIterator[Fleet]:
    """Yield a fleet without a supervisor; at the end every instance is removed."""
    told: list[str] = []
    hub = HTTPServer(Application([("/hub/api/(.*)", _ForgetHandler, {"told": told})]))
    socket, port = bind_unused_port()
    hub.add_sockets([socket])
    os.environ["JUPYTERHUB_API_URL"] = f"http://127.0.0.1:{port}/hub/api"
    os.environ["JUPYTERHUB_API_TOKEN"] = "supervisor-token"
    values = {"state_dir": str(state), "isolate_users": False, **settings}
    fleet = Fleet(database, NightingaleHub.from_dict(values), told)
    fleet.settings.ensure_state()
    try:
        yield fleet
        await _end_all(fleet)
    finally:
        hub.stop()
        await hub.close_all_connections()
        del os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"]


async def _end_all(fleet: Fleet) -> None:
    with fleet.database.read() as conn:
        keys = [row.id for row in instances.list_unsettled(conn)]
    async with supervising(fleet):
        for key in keys:
            fleet.stop(key, "the test ends")
            await fleet.wait_state(key, "stopped")
            assert fleet.list_processes(key) == []


def _fail(action: str, message: str) -> str:
    error = {"severity": "error", "summary": message, "detail": ""}
    line = json.dumps({"@message": f"Error: {message}", "type": "diagnostic", "diagnostic": error})
    return FAILS.format(action=action, error=line)
