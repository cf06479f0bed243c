"""What instances would do that moto only pretends to run: call home, beat, answer their nonce."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from nightingale_hub.instance.beat import Beats
from tests.aws import Aws, make_call

LOOK_PAUSE_S = 0.3


class Booted:
    """One instance that called home: its server and its beats."""

    def __init__(self) -> None:
        """Answer on a port of its own, with no nonce yet."""
        booted = self
        self.nonce = ""
        self.beats: Beats | None = None

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("X-Nightingale-Instance", booted.nonce)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("", 0), Handler)  # at whichever address moto gave
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        if self.beats is not None:
            self.beats.end()
        self.server.shutdown()
        self.server.server_close()


class Boots:
    """Boots every instance of an account once, and counts how many there were at once of each."""

    def __init__(self, aws: Aws, hub_url: str) -> None:
        """Boot what runs in *aws* with the hub at *hub_url*, from now on."""
        self._aws = aws
        self._url = hub_url
        self._booted: dict[str, Booted] = {}
        self.most: dict[str, int] = {}  # by our tag
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Boot nothing more, and end what was booted."""
        self._ends.set()
        self._thread.join()
        for each in self._booted.values():
            each.close()

    def _run(self) -> None:
        while not self._ends.wait(LOOK_PAUSE_S):
            found = self._aws.list_instances()
            counts: dict[str, int] = {}
            for each in found:
                counts[find_tag(each)] = counts.get(find_tag(each), 0) + 1
            for tag, count in counts.items():
                self.most[tag] = max(count, self.most.get(tag, 0))
            there = {each["InstanceId"]: each for each in found}
            for cloud_id, each in there.items():
                if each["State"]["Name"] == "running" and cloud_id not in self._booted:
                    self._boot(each)
            # One that is stopped for a resize comes back as it was.
            for cloud_id in self._booted.keys() - there.keys():
                self._booted.pop(cloud_id).close()

    def _boot(self, found: dict[str, Any]) -> None:
        """Call home for it; a hub that is down or a refusal: again at the next look."""
        cloud_id = found["InstanceId"]
        attribute = self._aws.ec2.describe_instance_attribute(
            InstanceId=cloud_id, Attribute="userData"
        )
        given = json.loads(base64.b64decode(attribute["UserData"]["Value"]))
        booted = Booted()
        call = make_call(self._aws, found, given, booted.server.server_port)
        url = f"{self._url}services/supervisor/api/bootstrap"
        try:
            answer = httpx.post(url, json=call, timeout=10, trust_env=False)
            launch: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            launch = {}
        if not launch:
            booted.close()
            return
        booted.nonce = launch["api_nonce"]
        beat_url = f"{launch['metering_url']}beat"
        booted.beats = Beats(beat_url, launch["credential"], given["instance_id"], call["boot_id"])
        booted.beats.start()
        self._booted[cloud_id] = booted


def find_tag(found: dict[str, Any]) -> str:
    """Return which instance of ours *found* is."""
    tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    return str(tags.get("nightingale:instance", ""))
