"""A local instance under test: a hub that it boots from, and a server that does as it is told."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nightingale_hub.durable import find_json, save_json
from nightingale_hub.instance.detach import find_pids
from nightingale_hub.processes import Identity, list_descendants, list_marked, send_signal
from tests.hub_on_loopback import HubOnLoopback

IS_ROOT = os.geteuid() == 0
SYSTEM_USER = f"nh-{os.urandom(8).hex()}"  # of this process: others test beside it
NOBODY = 65534

# A grandchild in a session of its own that hears no SIGTERM: the hardest to end.
DEAF_GRANDCHILD = "setsid -f sh -c \"trap '' TERM; sleep 300 & wait; sleep 300\" >/dev/null 2>&1"

# Stands in for jupyterhub-singleuser: answers on its port, and runs what a test asks it to.
SERVER = """
import http.server, json, os, subprocess, sys, urllib.parse

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, asked = self.path.partition("?")
        if path.endswith("/sh"):
            done = subprocess.run(["sh", "-c", urllib.parse.unquote(asked)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            answer = {"status": done.returncode, "output": done.stdout}
        else:
            answer = {"uid": os.getuid(), "environment": dict(os.environ), "pid": os.getpid(),
                      "arguments": sys.argv[1:], "cpus": len(os.sched_getaffinity(0))}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

port = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class LocalInstance:
    """One instance, with the verbs that Terraform uses and a way to look into it."""

    def __init__(self, state: Path, uid: int | None = None) -> None:
        self.uid = uid
        self.wrapper: list[str] = []
        self.directory = state / "instances" / f"i-{os.urandom(6).hex()}"
        self.home = state / "homes" / "alice"
        self.data = state / "closed" / "scans"
        for path in (self.directory, self.home.parent, self.data):
            path.mkdir(parents=True)
        # What protects a file here is its own directory, not one above.
        state.chmod(0o755)
        self.directory.chmod(0o700)
        self.data.parent.chmod(0o700)
        (self.data / "scan.txt").write_text("a scan\n")
        self.hub = HubOnLoopback("nonce-1", self._make_launch())
        boot = {"hub_url": self.hub.url, "instance_id": self.directory.name, "nonce": "nonce-1"}
        save_json(self.directory / "boot.json", boot)
        if uid is not None:
            subprocess.run(["chown", "-R", f"{uid}:{uid}", str(state)], check=True)

    def _make_launch(self) -> dict[str, Any]:
        return {
            "owner": "alice",
            "server_name": "",
            "cmd": [sys.executable, "-c", SERVER],
            "args": ["--from-the-spawner"],
            "env": {"JUPYTERHUB_SERVICE_PREFIX": "/user/alice/", "GIVEN_BY_HUB": "yes"},
            "home": str(self.home),
            "system_user": SYSTEM_USER if IS_ROOT and self.uid is None else None,
            "cpus": 1,
            "datasets": [],
            "credential": "c0ffee",
            "api_nonce": "a-nonce-for-the-api",
        }

    def start(self, verb: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self.wrapper, sys.executable, "-P", "-m", "nightingale_hub.instance.local", verb],
            env=os.environ
            | {
                "NIGHTINGALE_INSTANCE_DIR": str(self.directory),
                "NIGHTINGALE_HOME_DIR": str(self.home),
                "SECRET_OF_THE_HUB": "must not leak",
            }
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )

    def run(self, verb: str, **environment: str) -> tuple[int, str]:
        with self.start(verb, **environment) as process:
            output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def up(self) -> None:
        status, output = self.run("up")
        assert status == 0, output

    def up_and_serving(self) -> dict[str, Any]:
        self.up()
        return self.wait_for_server()

    def down(self) -> None:
        status, output = self.run("down")
        assert status == 0, output

    @property
    def agent(self) -> Identity:
        pids = find_pids(self.directory)
        assert pids is not None
        return pids.agent

    @property
    def keeper(self) -> Identity:
        pids = find_pids(self.directory)
        assert pids is not None and pids.keeper is not None
        return pids.keeper

    @property
    def log(self) -> str:
        path = self.directory / "agent.log"
        return path.read_text() if path.exists() else ""

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.shell('cat "$NIGHTINGALE_STATUS_FILE"')[1])
        return status

    def get(self, path: str) -> dict[str, Any]:
        port = self.hub.bootstraps[0]["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
            facts: dict[str, Any] = json.load(answer)
        return facts

    def wait_for_server(self) -> dict[str, Any]:
        def ask() -> dict[str, Any] | None:
            try:
                return self.get("") if self.hub.bootstraps else None
            except OSError:
                return None

        facts: dict[str, Any] = wait_for(ask, lambda: self.log)
        return facts

    def shell(self, command: str) -> tuple[int, str]:
        """Run *command* as the researcher, inside the instance."""
        answer = self.get(f"sh?{urllib.parse.quote(command)}")
        return answer["status"], answer["output"]

    def add_dataset(self, path: Path | None = None) -> None:
        """Grant the owner one dataset, before the instance is up."""
        dataset = {"name": "scans", "title": "Scans", "path": str(path or self.data)}
        self.hub.launch["datasets"] = [{**dataset, "policy": "strict"}]

    def wait_for_fault(self, text: str) -> str:
        """Return the first fault with *text* that a beat brought."""

        def look() -> str:
            faults = [fault for beat in self.hub.beats for fault in beat["faults"]]
            return next((fault for fault in faults if text in fault), "")

        found: str = wait_for(look, lambda: self.log)
        return found

    def list_everyone(self) -> list[Identity]:
        """Return the agent and all that runs below it."""
        return [self.agent, *list_descendants(self.agent.pid)]

    def find_part(self, module: str) -> Identity | None:
        """Return the agent's child that runs *module*."""
        for each in list_descendants(self.agent.pid):
            command = Path(f"/proc/{each.pid}/cmdline").read_bytes().split(b"\0")
            if module.encode() in command:
                return each
        return None

    def list_leftovers(self) -> list[Identity]:
        return list_marked("NIGHTINGALE_INSTANCE_ID", self.directory.name)

    def close(self) -> None:
        """End all that is left, then fail if `down` had not ended it itself."""
        try:
            self.down()
            left = self.list_leftovers()
            mounts = Path("/proc/self/mountinfo").read_text()
            for each in left:
                send_signal(each, signal.SIGKILL)
            assert left == []
            assert str(self.directory) not in mounts
            assert not (self.directory / "room").exists()
        finally:
            self.hub.shutdown()
            self.hub.server_close()


def wait_for(
    look: Callable[[], Any], explain: Callable[[], str] = lambda: "", timeout_s: float = 20
) -> Any:
    """Return what *look* returns once that is true; fail with *explain* after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, explain() or "it did not come true"
        time.sleep(0.02)
    return seen


@contextmanager
def local_instance(uid: int | None = None) -> Iterator[LocalInstance]:
    """Yield an instance that is not up yet, run by *uid* (this user when None)."""
    state = Path(tempfile.mkdtemp(prefix="nightingale-test-"))
    instance = LocalInstance(state, uid)
    try:
        yield instance
        instance.close()
    finally:
        for each in instance.list_leftovers():
            send_signal(each, signal.SIGKILL)
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def system_user() -> Iterator[str]:
    """Remove the tests' system user at the end."""
    try:
        yield SYSTEM_USER
    finally:
        if IS_ROOT and SYSTEM_USER in {entry.pw_name for entry in pwd.getpwall()}:
            subprocess.run(["userdel", SYSTEM_USER], check=True, capture_output=True)


def read_nonce(instance: LocalInstance) -> object:
    return (find_json(instance.directory / "boot.json") or {}).get("nonce")
